"""Changes of color, one number per image. Each is affine in the image, and nothing where its number says so."""

from __future__ import annotations

import math

from torch import Tensor


def brighten(images: Tensor, amount: Tensor) -> Tensor:
    """Add an amount [N] to all pixels of images [N, C, H, W]."""
    return images + amount.view(-1, 1, 1, 1)


def saturate(images: Tensor, factor: Tensor) -> Tensor:
    """Scale each pixel's distance to its gray, the mean over channels, by factors [N]; gray images stay."""
    gray = images.mean(1, keepdim=True)
    return images + (factor - 1.0).view(-1, 1, 1, 1) * (images - gray)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Scale each pixel's distance to the mean of its image by factors [N]."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return images + (factor - 1.0).view(-1, 1, 1, 1) * (images - mean)


def scale(images: Tensor, factor: Tensor) -> Tensor:
    """Scale all pixels by factors [N]: a contrast about middle gray, which is 0."""
    return images * factor.view(-1, 1, 1, 1)


def flip_gray(images: Tensor, amount: Tensor) -> Tensor:
    """Take twice an amount [N] of each pixel's gray away: 1 exchanges light and dark and keeps colors, 0 is nothing."""
    return images - (2.0 * amount).view(-1, 1, 1, 1) * images.mean(1, keepdim=True)


def rotate_hue(images: Tensor, angle: Tensor) -> Tensor:
    """Rotate the colors of images [N, 3, H, W] about the axis of grays by angles [N] in radians.

    Source: Rodrigues' formula, x cos t + (k x x) sin t + k (k x) (1 - cos t), with k = (1, 1, 1) / sqrt 3.
    """
    cosine, sine = angle.cos().view(-1, 1, 1, 1), angle.sin().view(-1, 1, 1, 1)
    across = (images.roll(1, 1) - images.roll(-1, 1)) / math.sqrt(3.0)
    return images * cosine + across * sine + (1.0 - cosine) * images.mean(1, keepdim=True)
