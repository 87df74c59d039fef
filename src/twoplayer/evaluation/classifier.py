"""How often a discriminator that names classes is wrong."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from twoplayer.core.batch import to_float
from twoplayer.core.errors import UserError
from twoplayer.core.modes import mode
from twoplayer.data.images import ImageData

CHUNK = 500


@torch.no_grad()
def classification_errors(classifier: nn.Module, data: ImageData) -> int:
    """Images of labeled data whose likeliest class is not their label; in evaluation mode.

    Raises UserError when the data is unlabeled or the discriminator names no classes.
    """
    if data.labels is None:
        raise UserError(f"{data.name} has no labels to compare with")
    like = next(classifier.parameters())
    wrong = 0
    with mode(classifier, training=False):
        for images, labels in zip(data.images.split(CHUNK), data.labels.split(CHUNK), strict=True):
            class_logits = classifier(to_float(images.to(like.device), like.dtype)).class_logits
            if class_logits is None:
                raise UserError("this discriminator names no classes")
            wrong += int((class_logits.argmax(1).cpu() != labels).sum())
    return wrong


def classifier_probe(data: ImageData) -> Callable[[nn.Module], float]:
    """A function from a discriminator to its share of errors on labeled data."""
    return lambda classifier: classification_errors(classifier, data) / len(data)
