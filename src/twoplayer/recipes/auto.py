"""The recipe that `twoplayer train auto` makes: a choice for each key that depends on the data, with its reason.

The game is that of Huang et al. 2025 (R3GAN), https://arxiv.org/abs/2501.05441: relativistic pairing with R1 and R2,
which converges where older games need tuning. Adaptive augmentation: Karras et al. 2020, https://arxiv.org/abs/2006.06676.

Nothing here looks at images: `choosing.py` does, and says what it saw as `Facts`. So a choice can be read, and tested,
as a function of a few numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from twoplayer.core.protocols import ImageShape
from twoplayer.networks.paper_dcgan import fitting_blocks
from twoplayer.networks.resnet import fitting_doublings
from twoplayer.recipes.load import AUTO, Tree, merge

RATE, GAMMA, BATCH = 1e-3, 0.1, 64
"""Learning rate and batch that belong together, and the penalties' weight at 28x28 gray pixels."""

KIMG, KIMG_OF_LARGE, GPU_KIMG = 400.0, 200.0, 10_000.0
"""Thousands of images: on a processor, there for images of more than 1,024 numbers, and on a GPU."""

LARGE = 1024
"""Numbers in an image beyond which a processor takes several times as long for each."""

ADAPTED_KIMG, GPU_ADAPTED_KIMG = 100.0, 500.0
"""Thousands of images in which the augmentation's probability can go from 0 to 1; at most half of the training."""

FEW_IMAGES = 20_000
"""With fewer D soon knows them by heart."""

MIRRORED = 1.05
"""How many times as far as an image its mirror image may be from the others and still be one of them."""


@dataclass(frozen=True)
class Facts:
    """What the choices depend on.

    Attributes:
        n: images of a pass.
        shape: channels, height, width of each.
        held_out: there are images that are not trained on.
        mirrored: how many times as far a mirror image is from the others as the image itself; None: not looked at.
        accelerated: the training has a GPU.
        batch_size: where it has been said.
        steps: where they have been said.
        processes: how many train together; each has an equal share of a batch.
        discriminator_steps: D updates per G update.
        augmented: something has been said about the augmentation.
    """

    n: int
    shape: ImageShape
    held_out: bool = False
    mirrored: float | None = None
    accelerated: bool = False
    batch_size: int | None = None
    steps: int | None = None
    processes: int = 1
    discriminator_steps: int = 1
    augmented: bool = False

    @property
    def words(self) -> str:
        """How large an image is."""
        return f"{self.shape[2]}x{self.shape[1]} pixels"


@dataclass(frozen=True)
class Choice:
    """What was chosen for a key, and why, in words for a person."""

    key: str
    value: Any
    reason: str


def choices(facts: Facts) -> list[Choice]:
    """All that depends on the data and the device."""
    batch = batch_of(facts)
    return [*_pictures(facts), *_players(facts), batch, *_game(facts, batch.value), *_length(facts, batch.value)]


def recipe_tree(facts: Facts, further: Iterable[Choice] = ()) -> Tree:
    """The unchecked recipe for data of these facts; it does not say where the data is.

    Args:
        facts: what is known about the data.
        further: what was chosen before, while the data was looked at; it comes first.
    """
    chosen = [*further, *choices(facts)]
    tree = merge(_always(), [(choice.key.split("."), choice.value) for choice in chosen])
    return tree | {"reasons": {choice.key: choice.reason for choice in chosen}}


def _always() -> Tree:
    """What no data changes."""
    adam = {"name": "adam", "beta1": 0.0, "beta2": 0.99}
    return {
        "name": AUTO,
        "title": "made for this data by `twoplayer train auto`",
        "data": {"split": "train"},
        "latents": {"name": "normal"},
        "generator": {"name": "resnet"},
        "discriminator": {"name": "paper-dcgan", "kernel_size": 3, "normalization": "none"},
        "regularizers": [{"name": "r1"}, {"name": "r2"}],
        "play": {"name": "alternating"},
        "optimizers": {"generator": dict(adam), "discriminator": dict(adam)},
        "average": {"warm_up": 0.05},
        "precision": "fp32",
    }


def _pictures(facts: Facts) -> list[Choice]:
    if facts.mirrored is None:
        return [Choice("data.flip", False, "mirror images could not be compared: too few pictures, or not in memory")]
    flip = facts.mirrored < MIRRORED
    words = f"a mirrored picture is {facts.mirrored:.2f} times as far from the others as the picture itself"
    return [Choice("data.flip", flip, f"{words}: {'one more of them' if flip else 'not one of them'}")]


def _players(facts: Facts) -> list[Choice]:
    doublings, halvings = fitting_doublings(facts.shape), fitting_blocks(facts.shape)
    up, down = (_times(n) for n in (doublings, halvings))
    begin, end = ("x".join(str(-(-side // 2**n)) for side in facts.shape[:0:-1]) for n in (doublings, halvings))
    color = facts.shape[0] == 3
    width = 128 if facts.accelerated else 32
    room = "a GPU has room for" if facts.accelerated else "a processor gets further with narrow players:"
    kind = "color" if color else "gray"
    return [
        Choice("latents.dim", 128 if color else 64, f"directions in which {kind} pictures may vary"),
        Choice("generator.n_blocks", doublings, f"G begins at {begin} and doubles {up} to {facts.words}"),
        Choice("discriminator.n_blocks", halvings, f"D halves {facts.words} {down}, to {end}"),
        Choice("generator.n_filters", width, f"{room} {width} channels on every map"),
        Choice("discriminator.n_filters", width, f"{width} channels at first, twice as many after each halving"),
    ]


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def batch_of(facts: Facts) -> Choice:
    """How many images are in a batch; the same for all processes together."""
    usual = 4 * BATCH if facts.accelerated else BATCH
    if facts.batch_size is not None:
        return Choice("batch_size", facts.batch_size, "as it was said")
    if facts.n >= 2 * usual:
        batch, reason = usual, "enough for steady gradients; larger ones make fewer steps in the same time"
    else:
        batch = 2 ** max((facts.n // 2).bit_length() - 1, 0)
        reason = f"a power of two, at most half of the {facts.n:,} images" if facts.n > 1 else "there is one image"
    shares = max(batch // facts.processes, 1) * facts.processes
    return Choice("batch_size", shares, reason if shares == batch else f"equal shares for {facts.processes} processes")


def _game(facts: Facts, batch: int) -> list[Choice]:
    gamma = float(f"{GAMMA * math.prod(facts.shape) / (28 * 28):.1g}")
    rate = float(f"{RATE * math.sqrt(batch / BATCH):.2g}")
    fast = "fast and stable where both slopes are penalized"
    if batch != BATCH:
        fast += f"; {RATE} for {BATCH} images, with the root of their number"
    slope = f"{facts.shape[0]}x{facts.shape[1]}x{facts.shape[2]} numbers an image: 0.1 at 28x28, in proportion"
    pairs = "each fake is compared with a real: what G leaves out stays to be seen; converges with the two penalties"
    found = [
        Choice("objective.name", "relativistic", pairs),
        Choice("optimizers.generator.learning_rate", rate, "as fast as D; without momentum, which circles"),
        Choice("optimizers.discriminator.learning_rate", rate, fast),
        Choice("regularizers.r1.gamma", gamma, slope),
        Choice("regularizers.r2.gamma", gamma, "as for reals"),
    ]
    return [*found, *_augmentation(facts, batch)]


def _augmentation(facts: Facts, batch: int) -> list[Choice]:
    if facts.n >= FEW_IMAGES and not facts.augmented:
        return [Choice("augmentation", None, f"{facts.n:,} images are many: D does not soon know them by heart")]
    seen_by = "held-out images" if facts.held_out else "how sure it is of them"
    few = "few" if facts.n < FEW_IMAGES else "not few, but changes were asked for"
    reason = f"{facts.n:,} images are {few}: D sees them changed, the more the more it overfits, seen by {seen_by}"
    usual = GPU_ADAPTED_KIMG if facts.accelerated else ADAPTED_KIMG
    kimg = float(f"{min(usual, _kimg(facts, batch) / 2):.3g}")
    pace = "thousands of images from never to always; published are 500, for longer trainings"
    return [Choice("augmentation.name", "adaptive", reason), Choice("augmentation.kimg", kimg, pace)]


def _steps(facts: Facts, batch: int) -> int:
    """What is chosen where nothing was said."""
    on_processor = KIMG_OF_LARGE if math.prod(facts.shape) > LARGE else KIMG
    return round((GPU_KIMG if facts.accelerated else on_processor) * 1000 / batch / facts.discriminator_steps)


def _kimg(facts: Facts, batch: int) -> float:
    """Thousands of images that D is shown."""
    return (facts.steps or _steps(facts, batch)) * batch * facts.discriminator_steps / 1000


def _length(facts: Facts, batch: int) -> list[Choice]:
    usual, kimg = _steps(facts, batch), _kimg(facts, batch)
    steps = facts.steps or usual
    passes = 1000 * kimg / facts.n
    every = round_down(steps / 40)
    return [
        Choice("steps", usual, f"{kimg:,.0f} thousand images, {passes:,.0f} passes; more is better, and may be added"),
        Choice(
            "average.half_life_kimg",
            round(kimg / 40, 3) or 0.001,
            "a fortieth of the whole: smooth, and young at the end",
        ),
        Choice("log_every", round_down(steps / 400), "a 400th of the whole, rounded down"),
        Choice("sample_every", every, "a 40th of the whole, rounded down"),
        Choice("checkpoint_every", every, "with each grid"),
    ]


def round_down(number: float) -> int:
    """The largest 1, 2 or 5 with zeros that is not above a number; at least 1.

    >>> [round_down(number) for number in (0.5, 1, 7, 49.9, 6250)]
    [1, 1, 5, 20, 5000]
    """
    zeros: int = 10 ** math.floor(math.log10(max(number, 1.0)))
    return max(digit * zeros for digit in (1, 2, 5) if digit == 1 or digit * zeros <= number)
