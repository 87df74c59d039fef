"""Drawing pictures from a generator so that picture i depends on the seed and i alone.

Latents are drawn, and the generator is run, in blocks of a fixed size: some kernels give other last bits for other
batch sizes, and some random streams other numbers for other lengths. So 25 pictures are the first 25 of 1,000.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from twoplayer.core.batch import to_float, to_uint8
from twoplayer.core.modes import mode
from twoplayer.core.protocols import Bounded, Latents
from twoplayer.core.rng import Stream
from twoplayer.ops.chains.link import Setting
from twoplayer.ops.folding import for_inference

BLOCK = 64


NOTHING: Mapping[str, Tensor] = {}


@dataclass(frozen=True)
class Truncated:
    """Latents drawn towards their middle: pictures nearer to the average one, fewer oddities, less variety.

    Source: Karras et al. 2019, https://arxiv.org/abs/1812.04948, appendix B: mean + psi (z - mean); there of a mapping
    network's output, here of z itself.

    Attributes:
        latents: how z is distributed.
        psi: in (0, 1]; 1 changes nothing.
    """

    latents: Latents
    psi: float

    def draw(self, n: int, stream: Stream, like: Tensor | None = None) -> Tensor:
        """n latents [n, latent_dim]."""
        middle = (self.latents.low + self.latents.high) / 2.0 if isinstance(self.latents, Bounded) else 0.0
        return middle + self.psi * (self.latents.draw(n, stream, like) - middle)


Drawn = Latents | Truncated
"""What latents are drawn from."""


def in_turn(ids: Sequence[int], n: int) -> Tensor:
    """Class ids round and round: int64 [n]."""
    return torch.tensor(ids)[torch.arange(n) % len(ids)]


@torch.no_grad()
def sample_blocks(
    generator: nn.Module,
    latents: Drawn,
    n: int,
    stream: Stream,
    given: Mapping[str, Tensor] = NOTHING,
    dtype: torch.dtype | None = None,
    first: int = 0,
) -> Iterator[Tensor]:
    """n pictures in evaluation mode, uint8 [up to BLOCK, C, H, W] at a time, on the CPU.

    Args:
        generator: latents [N, latent_dim] to images in [-1, 1].
        latents: how z is distributed.
        n: how many.
        stream: where the latents are drawn.
        given: what a conditional generator is told of these pictures, [n, ...] each.
        dtype: what layers compute in, if not their own dtype; where the generator is a chain.
        first: the number of the first picture: the same as if those before it had been drawn too.
    """
    like = next(generator.parameters())
    draw = for_inference(generator, Setting(dtype))
    end = first + n
    for block in range(first // BLOCK, -(-end // BLOCK)):
        start = block * BLOCK
        z = latents.draw(BLOCK, stream.child(block), like)
        with nullcontext() if draw is not generator else mode(generator, training=False):
            images = to_uint8(draw(z, **_block(given, start - first, like.device))).cpu()
        yield images[max(first - start, 0) : end - start]


def _block(given: Mapping[str, Tensor], start: int, device: torch.device) -> dict[str, Tensor]:
    """BLOCK rows from `start`; the first and the last one stand in for those before and beyond them."""
    rows = torch.arange(start, start + BLOCK)
    return {name: values[rows.clamp(0, len(values) - 1)].to(device) for name, values in given.items()}


def sample(
    generator: nn.Module,
    latents: Drawn,
    n: int,
    stream: Stream,
    given: Mapping[str, Tensor] = NOTHING,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """n pictures in evaluation mode, uint8 [n, C, H, W]; see `sample_blocks`."""
    return torch.cat(list(sample_blocks(generator, latents, n, stream, given, dtype)))


def latents_of(latents: Latents, numbers: Sequence[int], stream: Stream, like: Tensor | None = None) -> Tensor:
    """The latents behind pictures `numbers` of `sample` with the same stream: [len(numbers), latent_dim].

    Args:
        latents: how z is distributed.
        numbers: of the pictures, counted from 0, in any order.
        stream: where the latents are drawn.
        like: a tensor of the generator's dtype, on its device.
    """
    blocks = {block: latents.draw(BLOCK, stream.child(block), like) for block in {n // BLOCK for n in numbers}}
    return torch.stack([blocks[number // BLOCK][number % BLOCK] for number in numbers])


@torch.no_grad()
def sample_best(
    players: tuple[nn.Module, nn.Module],
    latents: Drawn,
    n: int,
    best_of: int,
    stream: Stream,
    given: tuple[Mapping[str, Tensor], Mapping[str, Tensor]] = (NOTHING, NOTHING),
) -> Tensor:
    """The n of n * best_of pictures that D finds most real, best first: uint8 [n, C, H, W].

    Source: the "nice" mode of the reading list's tanh GAN. D judges the pictures as stored, rounded to bytes, 64 at a
    time; a D with minibatch features judges each in the company of the other 63.

    Args:
        players: generator and discriminator.
        latents: how z is distributed.
        n: how many to keep.
        best_of: how many to draw for each that is kept.
        stream: where the latents are drawn.
        given: what each player is told, one row that holds for all pictures.
    """
    generator, discriminator = players
    images: list[Tensor] = []
    marks: list[Tensor] = []
    like = next(discriminator.parameters())
    candidates = n * best_of
    blocks = sample_blocks(generator, latents, -(-candidates // BLOCK) * BLOCK, stream, given[0])
    for number, block in enumerate(blocks):  # whole blocks: where D compares pictures, they are all of this kind
        with mode(discriminator, training=False):
            verdict = discriminator(to_float(block.to(like.device), like.dtype), **_block(given[1], 0, like.device))
        left = candidates - number * BLOCK
        images.append(block[:left])
        marks.append(verdict.logits[:left].float().cpu())
        if sum(map(len, marks)) >= 2 * n or left <= BLOCK:
            pictures, worth = torch.cat(images), torch.cat(marks)
            order = worth.argsort(descending=True, stable=True)[:n]
            images, marks = [pictures[order]], [worth[order]]
    return images[0]
