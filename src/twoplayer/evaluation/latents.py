"""What a generator's latents mean: ways between pictures, sums of pictures, and the latents behind a given picture.

Sources: interpolation and arithmetic on averaged exemplars, Radford, Metz and Chintala 2015,
https://arxiv.org/abs/1511.06434, section 6; interpolation on the sphere, White 2016, https://arxiv.org/abs/1609.04468,
section 2.1; recovery by gradient descent, Zhu et al. 2016, https://arxiv.org/abs/1609.03552, section 3.1, and Lipton
and Tripathi 2017, https://arxiv.org/abs/1702.04782.

Deviations of the recovery: Adam with a rate that falls to zero, several beginnings at once, and bounded latents are
clamped into their range after each step (Lipton and Tripathi draw what left the range anew).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from twoplayer.core.batch import to_float, to_uint8
from twoplayer.core.errors import UserError
from twoplayer.core.modes import mode
from twoplayer.core.protocols import Bounded, Latents
from twoplayer.core.rng import Stream
from twoplayer.runs.sampling import BLOCK, NOTHING

SMALLEST_SINE = 1e-6
"""Below this the two vectors are (anti)parallel and span no plane to turn in."""

VARIATION = 0.25
"""Radford et al. 2015, figure 7: uniform noise of this scale makes the pictures around a result."""


@dataclass(frozen=True)
class Recovered:
    """The best latents found for a picture.

    Attributes:
        latents: [latent_dim].
        error: mean squared difference between the picture and the generator's, pixels in [-1, 1].
        picture: what the generator makes of them, uint8 [C, H, W].
        row: of the beginning that led there; tells which row of what was given belongs to it.
    """

    latents: Tensor
    error: float
    picture: Tensor
    row: int


def interpolate(start: Tensor, end: Tensor, steps: int, spherical: bool = False) -> Tensor:
    """Latents from `start` to `end`, both included.

    Linear: (1 - t) a + t b. Spherical (White 2016): a sin((1 - t) w) / sin w + b sin(t w) / sin w with w the angle
    between them, so that the length stays that of typical latents; linear where they are parallel or opposite.

    Args:
        start: [D].
        end: [D].
        steps: how many latents, at least 2.
        spherical: along the great circle instead of the straight line.

    Returns:
        [steps, D].

    Raises:
        UserError: fewer than 2 steps.
    """
    if steps < 2:
        raise UserError(f"steps={steps}: an interpolation has at least its 2 ends")
    share = torch.linspace(0.0, 1.0, steps, dtype=torch.float64).unsqueeze(1)
    a, b = start.cpu().double(), end.cpu().double()  # mps has no float64
    of_start, of_end = 1.0 - share, share
    if spherical:
        lengths = a.norm() * b.norm()
        angle = (a.dot(b) / lengths.clamp_min(torch.finfo(torch.float64).tiny)).clamp(-1.0, 1.0).acos()
        if lengths > 0 and angle.sin() > SMALLEST_SINE:
            of_start, of_end = (of_start * angle).sin() / angle.sin(), (of_end * angle).sin() / angle.sin()
    return (of_start * a + of_end * b).to(start)


def walk(stops: Tensor, steps_between: int, spherical: bool = False, loop: bool = False) -> Tensor:
    """Latents on the way past every stop; frame k * steps_between is stop k.

    Args:
        stops: [S, D], S at least 2.
        steps_between: frames from a stop to the next, at least 1.
        spherical: see `interpolate`.
        loop: go on from the last stop to the first, which is not repeated, so that the frames can be shown again
            and again.

    Returns:
        [S * steps_between, D] with `loop`, else [(S - 1) * steps_between + 1, D].

    Raises:
        UserError: fewer than 2 stops, or than 1 step between them.
    """
    if len(stops) < 2 or steps_between < 1:
        raise UserError(f"stops={len(stops)}, frames={steps_between}: a walk has at least 2 stops, 1 frame from each")
    ends = [*stops, stops[0]] if loop else [*stops]
    ways = [interpolate(a, b, steps_between + 1, spherical)[:-1] for a, b in pairwise(ends)]
    return torch.cat(ways if loop else [*ways, stops[-1:]])


def arithmetic(plus: Tensor, minus: Tensor, plus_again: Tensor) -> Tensor:
    """vector(plus) - vector(minus) + vector(plus_again), each the mean of its exemplars.

    Source: Radford et al. 2015, section 6.3.2; single exemplars were unstable there, means of three were not.

    Args:
        plus: exemplars of the first concept, [K, D].
        minus: of the one to take away, [L, D].
        plus_again: of the one to add, [M, D].

    Returns:
        [D].
    """
    return plus.mean(0) - minus.mean(0) + plus_again.mean(0)


def variations(center: Tensor, stream: Stream) -> Tensor:
    """Nine latents [9, D] for a 3x3 picture: `center` [D] in the middle, around it the same with uniform noise."""
    noise = stream.uniform((9, len(center)), -VARIATION, VARIATION, like=center)
    noise[4] = 0.0
    return center + noise


@torch.no_grad()
def pictures_of(generator: nn.Module, z: Tensor, given: Mapping[str, Tensor] = NOTHING) -> Tensor:
    """The pictures of latents in evaluation mode, in blocks as `sample` draws them: uint8 [N, C, H, W], on the CPU.

    Args:
        generator: latents [N, latent_dim] to images in [-1, 1].
        z: [N, latent_dim].
        given: what a conditional generator is told, [N, ...] each.
    """
    like = next(generator.parameters())
    blocks = []
    for start in range(0, len(z), BLOCK):
        rows = torch.arange(start, start + BLOCK).clamp_max(len(z) - 1)
        told = {name: values[rows].to(like.device) for name, values in given.items()}
        with mode(generator, training=False):
            blocks.append(to_uint8(generator(z[rows].to(like), **told)).cpu())
    return torch.cat(blocks)[: len(z)]


def recover(
    generator: nn.Module,
    picture: Tensor,
    latents: Latents,
    steps: int = 500,
    learning_rate: float = 0.1,
    seed: int = 0,
    restarts: int = 8,
    given: Mapping[str, Tensor] = NOTHING,
    watch: Callable[[int], None] = lambda _: None,
) -> Recovered:
    """Search the latents whose picture is nearest to a given one, from several random beginnings at once.

    Args:
        generator: latents [N, latent_dim] to images in [-1, 1]; used in evaluation mode, left as it was.
        picture: uint8 [C, H, W].
        latents: the distribution that the beginnings are drawn from.
        steps: updates of Adam.
        learning_rate: of the first update, in units of the latents; it falls linearly to zero.
        seed: of the beginnings.
        restarts: how many beginnings.
        given: what a conditional generator is told, [restarts, ...] each: it may differ between beginnings.
        watch: is told the number of each finished step.

    Raises:
        UserError: steps, restarts or learning_rate is not positive.
    """
    if steps < 1 or restarts < 1 or not learning_rate > 0:
        raise UserError(f"steps={steps}, restarts={restarts}, learning_rate={learning_rate}: all three are positive")
    like = next(generator.parameters())
    target = to_float(picture.to(like.device), like.dtype)
    z = latents.draw(restarts, Stream(seed).child("recover"), like).requires_grad_()
    told = {name: values.to(like.device) for name, values in given.items()}
    adam = torch.optim.Adam([z], learning_rate)
    with mode(generator, training=False), torch.enable_grad():
        for step in range(steps):
            adam.param_groups[0]["lr"] = learning_rate * (1.0 - step / steps)
            (z.grad,) = torch.autograd.grad(_errors(generator(z, **told), target).sum(), z)
            adam.step()
            _clamp(z, latents)
            watch(step + 1)
        images = generator(z, **told).detach()
    errors = _errors(images, target)
    best = int(errors.argmin())
    return Recovered(z[best].detach(), float(errors[best]), to_uint8(images[best]).cpu(), best)


def _errors(images: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of each image [N, C, H, W] to a target [C, H, W]: [N]."""
    return (images - target).square().flatten(1).mean(1)


@torch.no_grad()
def _clamp(z: Tensor, latents: Latents) -> None:
    if isinstance(latents, Bounded):
        z.clamp_(latents.low, latents.high)
