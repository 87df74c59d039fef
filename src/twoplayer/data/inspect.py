"""What a data set is, and what looks wrong with it, in words."""

from __future__ import annotations

from collections import Counter

from twoplayer.data.images import ImageData

FEW_IMAGES = 1000
IMBALANCE = 5.0


def describe(data: ImageData) -> dict[str, str]:
    """Facts for a person, by label."""
    channels, height, width = data.shape
    facts = {
        "source": data.source,
        "split": data.split,
        "images": f"{len(data):,}",
        "size": f"{width} x {height} pixels, {'gray' if channels == 1 else 'color'}",
        "memory": f"{data.images.numel() / 2**20:,.1f} MiB",
        "sha256": data.fingerprint,
    }
    if data.labels is not None:
        counts = Counter(data.labels.tolist())
        facts["classes"] = ", ".join(f"{name} ({counts[index]:,})" for index, name in enumerate(data.class_names))
    return facts


def problems(data: ImageData) -> list[str]:
    """What a person should know before training on it; empty when nothing is wrong."""
    found = []
    if len(data) < FEW_IMAGES:
        found.append(f"only {len(data)} images: a GAN will learn them by heart")
    copies = len(data) - len({image.numpy().tobytes() for image in data.images})
    if copies:
        found.append(f"{copies:,} images are exact copies of others")
    flat = data.images.flatten(1)
    constant = int((flat.amin(1) == flat.amax(1)).sum())
    if constant:
        found.append(f"{constant:,} images have one color only")
    counts = Counter([] if data.labels is None else data.labels.tolist())
    if counts and max(counts.values()) > IMBALANCE * min(counts.values()):
        found.append(
            f"classes are uneven: the largest has {max(counts.values()):,}, the smallest {min(counts.values()):,}"
        )
    return found
