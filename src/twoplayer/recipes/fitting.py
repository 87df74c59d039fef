"""What the pieces of a recipe ask of one another about classes."""

from __future__ import annotations

from collections.abc import Iterable

from twoplayer.core.protocols import (
    ClassLoss,
    DiscriminatorNetwork,
    GeneratorNetwork,
    Objective,
    Regularizer,
    Supervised,
)


def require_labels_for(objective: Objective, labeled_per_class: int | None) -> None:
    """Raise ValueError where labels are given to an objective that has no use for them, or lack."""
    supervised = isinstance(objective, Supervised)
    if supervised and labeled_per_class is None:
        raise ValueError(f"objective.name={objective.name} needs labels: say data.labeled_per_class")
    if not supervised and labeled_per_class is not None:
        raise ValueError(f"objective.name={objective.name} makes no use of data.labeled_per_class")


def require_named_classes(
    rules: Iterable[Regularizer],
    generator: GeneratorNetwork,
    discriminator: DiscriminatorNetwork,
    objective: Objective,
) -> None:
    """Raise ValueError where a loss on D's naming of classes finds no D that names them, or no G that is told them."""
    for rule in rules:
        if not isinstance(rule, ClassLoss):
            continue
        if not discriminator.names_classes:
            hint = "say discriminator.class_logits=true, where the network has that"
            raise ValueError(f"{rule.name}: discriminator.name={discriminator.name} names no classes: {hint}")
        if "labels" not in generator.takes:
            raise ValueError(f"{rule.name}: generator.name={generator.name} is told no labels")
        if isinstance(objective, Supervised):
            raise ValueError(f"{rule.name}: objective.name={objective.name} teaches D the classes already")
