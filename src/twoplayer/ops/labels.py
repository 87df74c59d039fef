"""Labels as numbers that a network can read."""

from __future__ import annotations

from torch import Tensor

from twoplayer.core.errors import UserError


def one_hot(labels: Tensor, num_classes: int, like: Tensor) -> Tensor:
    """Labels int64 [N] as [N, num_classes] of zeros and a one, in the dtype of `like`."""
    return like.new_zeros(len(labels), num_classes).scatter_(1, labels[:, None], 1.0)


def label_planes(labels: Tensor, num_classes: int, images: Tensor) -> Tensor:
    """Labels int64 [N] as [N, num_classes, H, W]: one plane of ones, the others zeros."""
    flat = one_hot(labels, num_classes, images)
    return flat[:, :, None, None].expand(-1, -1, *images.shape[-2:])


def classes_taken(conditional: bool, num_classes: int, player: str) -> int:
    """Classes that a player is told: all of the data's, or 0 where it is not conditional. Raises UserError."""
    if conditional:
        require_classes(num_classes, player)
    return num_classes if conditional else 0


def classes_named(names: bool, num_classes: int) -> int:
    """Classes that a discriminator gives logits of: all of the data's, or 0 where it names none. Raises UserError."""
    if names and num_classes < 1:
        raise UserError("discriminator.class_logits: the data has no classes to name")
    return num_classes if names else 0


def require_classes(num_classes: int, player: str) -> None:
    """Raise UserError when a conditional player is built for unlabeled data."""
    if num_classes < 1:
        raise UserError(f"{player} is conditional on labels, but the data has none")
