"""Drawing pictures from a generator so that picture i depends on the seed and i alone.

Latents are drawn, and the generator is run, in blocks of a fixed size: some kernels give other last bits for other
batch sizes, and some random streams other numbers for other lengths. So 25 pictures are the first 25 of 1,000.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from twoplayer.core.batch import to_float, to_uint8
from twoplayer.core.modes import mode
from twoplayer.core.protocols import Latents
from twoplayer.core.rng import Stream

BLOCK = 64


@torch.no_grad()
def sample_blocks(generator: nn.Module, latents: Latents, n: int, stream: Stream) -> Iterator[Tensor]:
    """n pictures in evaluation mode, uint8 [up to BLOCK, C, H, W] at a time, on the CPU."""
    like = next(generator.parameters())
    for start in range(0, n, BLOCK):
        z = latents.draw(BLOCK, stream.child(start // BLOCK), like)
        with mode(generator, training=False):
            images = to_uint8(generator(z)).cpu()
        yield images[: n - start]


def sample(generator: nn.Module, latents: Latents, n: int, stream: Stream) -> Tensor:
    """n pictures in evaluation mode, uint8 [n, C, H, W]."""
    return torch.cat(list(sample_blocks(generator, latents, n, stream)))


@torch.no_grad()
def sample_best(
    generator: nn.Module, discriminator: nn.Module, latents: Latents, n: int, best_of: int, stream: Stream
) -> Tensor:
    """The n of n * best_of pictures that D finds most real, best first: uint8 [n, C, H, W].

    Source: the "nice" mode of the reading list's tanh GAN. D judges the pictures as stored, rounded to bytes.
    """
    kept: Tensor | None = None
    marks = torch.empty(0)
    like = next(discriminator.parameters())
    for images in sample_blocks(generator, latents, n * best_of, stream):
        block = torch.zeros((BLOCK, *images.shape[1:]), dtype=torch.uint8)
        block[: len(images)] = images
        with mode(discriminator, training=False):
            logits = discriminator(to_float(block.to(like.device), like.dtype)).logits[: len(images)].float().cpu()
        kept = images if kept is None else torch.cat([kept, images])
        marks = torch.cat([marks, logits])
        order = marks.argsort(descending=True, stable=True)[:n]
        kept, marks = kept[order], marks[order]
    assert kept is not None, "n and best_of are at least 1"
    return kept
