"""A game in the plane that goes step by step, and what there is to see of it.

What is played is the library's own: a recipe's players, objective, regularizers and optimizers, with the step and the
moves of `training/`. Looking changes nothing: a game that was looked at goes on as one that was not.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock

import torch
from torch import Tensor

from twoplayer.bench.points import PointBatches, Points
from twoplayer.core.batch import Batch
from twoplayer.core.errors import Diverged
from twoplayer.core.modes import mode
from twoplayer.core.protocols import Probabilistic
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict
from twoplayer.explore.choices import Choice, recipe_of
from twoplayer.explore.shapes import IMAGE_SHAPE, SHAPES
from twoplayer.training.loop import one_step
from twoplayer.training.play import moves_of
from twoplayer.training.state import new_state, prepare
from twoplayer.training.step import Game, Report, first_not_finite, update_discriminator, update_generator

SHOWN = 256
"""Reals and fakes in a view."""

COUNTED = 1000
"""Fakes among which centers are looked for; the first of them are shown."""

GRID_SIDE = 41
"""Places a side at which D is asked; they cover [-1, 1]."""

KEPT_LOSSES = 300
CPU = torch.device("cpu")

_turn = Lock()
"""Layers draw from torch's only global generator, so that one game plays at a time; a turn is short."""


@dataclass(frozen=True)
class View:
    """What there is to see of a game.

    Attributes:
        step: full steps played.
        moves: moves of one player alone.
        real: [N, 2].
        fake: [N, 2], from the same latents in each view.
        push: [N, 2], minus N times the gradient of G's loss with respect to each fake: where G is pushed.
        field: [S, S], what D says over [-1, 1]^2, row by row from the lowest y.
        is_probability: it is the probability of being real; else the logit.
        center: what D says between the means on reals and on fakes; 0.5 for a probability.
        losses: step, G's loss, D's loss of the last steps.
        found: centers that have a fake, and how many there are; None where no centers are known.
        near: the share of the fakes that are near to a center; 0 where none are known.
        diverged: the step in which something became NaN or infinite; the rest is from before, then.
    """

    step: int
    moves: int
    real: Tensor
    fake: Tensor
    push: Tensor
    field: Tensor
    is_probability: bool
    center: float
    losses: tuple[tuple[int, float, float], ...]
    found: tuple[int, int] | None
    near: float
    diverged: int | None = None


class Plane:
    """A game in the plane.

    Args:
        choice: what is played.

    Raises:
        UserError: there is no such game.
    """

    def __init__(self, choice: Choice) -> None:
        self.choice, self.recipe = choice, recipe_of(choice)
        self.data = SHAPES[choice.data]
        self.diverged: Diverged | None = None
        self.moves = 0
        self._losses: deque[tuple[int, float, float]] = deque(maxlen=KEPT_LOSSES)
        self._own = Lock()
        root = Stream(choice.seed)
        self._stream, self._alone = root.child("train"), root.child("alone")
        self._batches = PointBatches(self.data, self.recipe.batch_size, root.child("data"), CPU)
        with _turn, torch.random.fork_rng(devices=[]):
            self.state = new_state(self.recipe, IMAGE_SHAPE, 0, CPU)
            prepare(self.state, self.recipe, self._batches)
        self._real = self.data.draw(SHOWN, root.child("shown"))
        self._latents = self.recipe.latents.draw(COUNTED, root.child("latents"), self._real)
        self._view = self._seen()

    @property
    def game(self) -> Game:
        """The players and the rules between them."""
        return self.state.game

    def play(self, steps: int, seconds: float = float("inf")) -> int:
        """Play full steps: so many, until the time is up, or until it diverges; one at least. How many were played."""
        before = self.state.step

        def several() -> None:
            ends = time.monotonic() + seconds
            for number in range(steps):
                if number and time.monotonic() >= ends:
                    return
                one_step(self.state, self.recipe, self._batches, self._stream)
                self._note(self.state.meters.means())
                self.state.meters.reset()

        self._take_turn(several)
        return self.state.step - before

    def move_discriminator(self) -> None:
        """One update of D; G stays as it is."""

        def move() -> None:
            real, stream = self._next()
            _, report = moves_of(self.game).discriminator(real, stream.child("discriminator"))
            update_discriminator(self.game)
            self._finish(report)

        self._take_turn(move)

    def move_generator(self) -> None:
        """One update of G; D stays as it is."""

        def move() -> None:
            real, stream = self._next()
            with torch.no_grad():
                (before,) = self.game.judge(real, real.images)
            report = moves_of(self.game).generator(real, before, stream.child("generator"))
            update_generator(self.game)
            self._finish(report)

        self._take_turn(move)

    def look(self) -> View:
        """What there is to see now; after it diverged, what was there before."""
        with self._own:
            if self.diverged is None:
                try:
                    self._view = self._seen()
                except Diverged as error:
                    self.diverged = error
            return self._view if self.diverged is None else replace(self._view, diverged=self.diverged.step)

    def _take_turn(self, moves: Callable[[], None]) -> None:
        """Play while no other game does; one that diverged goes no further."""
        with self._own, _turn, torch.random.fork_rng(devices=[]):
            if self.diverged is None:
                try:
                    moves()
                except Diverged as error:
                    self.diverged = error

    def _next(self) -> tuple[Batch, Stream]:
        """A batch and a stream for a move of one player alone; those of the full steps stay as they are."""
        stream = self._alone.child(self.moves)
        self.moves += 1
        stream.child("layers").seed_torch()
        return self._batches.some(self.recipe.batch_size, stream.child("data")), stream

    def _finish(self, report: Report) -> None:
        culprit = first_not_finite([*report.items(), *self.state.gradients()])
        if culprit is not None:
            raise Diverged(self.state.step, culprit)
        self._note({name: float(value) for name, value in report.items()})

    def _note(self, report: dict[str, float]) -> None:
        """Keep the losses; a player that did not move keeps its last one."""
        _, on_g, on_d = self._losses[-1] if self._losses else (0, float("nan"), float("nan"))
        losses = report.get("loss/generator", on_g), report.get("loss/discriminator", on_d)
        self._losses.append((self.state.step, *losses))

    def _seen(self) -> View:
        """Raises Diverged where a number is not finite."""
        game = self.game
        with mode(game.generator.network, training=False), mode(game.discriminator.network, training=False):
            with torch.no_grad():
                counted = game.generator.network(self._latents)
            fake = counted[:SHOWN]
            push, on_real, on_fake = pushes(game, self._real, fake)
            field = self._said(game.discriminator.network(places()))
            said = [self._said(verdict).mean() for verdict in (on_real, on_fake)]
        culprit = first_not_finite([("fakes", fake), ("gradient at the fakes", push), ("what D says", field)])
        if culprit is not None:
            raise Diverged(self.state.step, culprit)
        is_probability = isinstance(game.objective, Probabilistic)
        figures = self.data.figures(counted) if isinstance(self.data, Points) else None
        return View(
            step=self.state.step,
            moves=self.moves,
            real=self._real.flatten(1),
            fake=fake.flatten(1),
            push=push.flatten(1),
            field=field.view(GRID_SIDE, GRID_SIDE),
            is_probability=is_probability,
            center=0.5 if is_probability else float(said[0] + said[1]) / 2.0,
            losses=tuple(self._losses),
            found=(int(figures["modes"]), self.data.num_modes) if figures and isinstance(self.data, Points) else None,
            near=figures["high_quality"] if figures else 0.0,
        )

    def _said(self, verdict: Verdict) -> Tensor:
        """What D says of each image, [N]: a probability where there is one, else the logit."""
        objective = self.game.objective
        said = objective.probability(verdict) if isinstance(objective, Probabilistic) else verdict.logits
        return said.detach()


def places() -> Tensor:
    """Where D is asked: [S * S, 2, 1, 1], row by row from the lowest y."""
    along = torch.linspace(-1.0, 1.0, GRID_SIDE)
    return torch.cartesian_prod(along, along).flip(1)[:, :, None, None]


def pushes(game: Game, real: Tensor, fake: Tensor) -> tuple[Tensor, Verdict, Verdict]:
    """Where G's loss would have each fake go, and D's verdicts.

    Args:
        game: the players; D in the mode in which it is asked.
        real: [N, C, H, W].
        fake: as many.

    Returns:
        Minus the gradient of N times G's loss (the mean over the batch, as in the step) with respect to the fakes,
        [N, C, H, W]; the verdicts on real and fake.
    """
    fake = fake.detach().requires_grad_()
    on_real, on_fake = game.judge(Batch(real), real, fake)
    (gradient,) = torch.autograd.grad(game.objective.generator_loss(on_real.detach(), on_fake).sum(), fake)
    return -gradient, on_real.detach(), on_fake.detach()
