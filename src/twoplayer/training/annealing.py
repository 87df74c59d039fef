"""What changes with the images that D has seen: schedules in a recipe, averages that warm up.

Every value is a function of the images shown before a step, so that a checkpoint need not hold it. D's updates within
one step all have the same values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from twoplayer.core.catalogue import Settings
from twoplayer.core.schedule import Moment, fixed_at, schedules_in
from twoplayer.recipes.schema import Average, Recipe
from twoplayer.training.ema import follow_with
from twoplayer.training.state import TrainingState


@dataclass(frozen=True)
class Annealing:
    """The values of a recipe's schedules at each step of a run.

    Attributes:
        recipe: whose.
        steps: of the whole run.
    """

    recipe: Recipe
    steps: int

    def moment(self, step: int) -> Moment:
        """How far the run is after so many steps."""
        return Moment(step * self.images_per_step / 1000.0, self.steps * self.images_per_step / 1000.0)

    @cached_property
    def changes(self) -> bool:
        """Whether anything does."""
        return any(schedules_in(piece) for _, piece in pieces(self.recipe)) or any(
            kept.warm_up is not None for _, kept in averages(self.recipe)
        )

    @property
    def images_per_step(self) -> int:
        """Real images shown to D in a step."""
        return self.recipe.batch_size * self.recipe.play.discriminator_steps

    def figures(self, step: int) -> dict[str, float]:
        """The values for the step that follows so many steps, as schedule/KEY/OWNER; none of what never changes."""
        moment = self.moment(step)
        found = {
            f"schedule/{key}/{owner}": schedule.at(moment)
            for owner, piece in pieces(self.recipe)
            for key, schedule in schedules_in(piece).items()
        }
        warming = {role: kept for role, kept in averages(self.recipe) if kept.warm_up is not None}
        return found | {f"schedule/half_life_kimg/{role}": kept.half_life_at(moment) for role, kept in warming.items()}

    def bring(self, state: TrainingState) -> None:
        """Put the values for a state's next step where that step looks for them; touch nothing that never changes."""
        if not self.changes:
            return
        moment, game, rules = self.moment(state.step), state.game, self.recipe.optimizers
        for player, rule in ((game.generator, rules.generator), (game.discriminator, rules.discriminator)):
            if schedules_in(rule):
                fixed_at(rule, moment).tune(player.optimizer)
        if changes_penalties(self.recipe):
            state.game = replace(game, regularizers=tuple(fixed_at(r, moment) for r in self.recipe.regularizers))
        followers = {"generator": state.average, "discriminator": state.discriminator_average}
        for role, kept in averages(self.recipe):
            follower = followers[role]
            if follower is not None and (schedules_in(kept) or kept.warm_up is not None):
                follow_with(follower, kept.half_life_at(moment), self.images_per_step)

    def is_settled(self, step: int) -> bool:
        """Whether no value changes any more after so many steps."""
        if not self.changes:
            return True
        moment = self.moment(step)
        ways = [schedule for _, piece in pieces(self.recipe) for schedule in schedules_in(piece).values()]
        if not all(way.is_over(moment) for way in ways):
            return False
        return all(
            kept.warm_up is None or kept.half_life_at(moment) < kept.warm_up * moment.kimg
            for _, kept in averages(self.recipe)
        )


def pieces(recipe: Recipe) -> Iterator[tuple[str, Settings]]:
    """Everything that can hold a schedule, with its name in the log."""
    yield "generator", recipe.optimizers.generator
    yield "discriminator", recipe.optimizers.discriminator
    for rule in recipe.regularizers:
        yield rule.name, rule
    yield from averages(recipe)


def averages(recipe: Recipe) -> Iterator[tuple[str, Average]]:
    """The averages that a recipe keeps, by the player that they follow."""
    for role, kept in (("generator", recipe.average), ("discriminator", recipe.discriminator_average)):
        if kept is not None:
            yield role, kept


def changes_penalties(recipe: Recipe) -> bool:
    """Whether a penalty's weight changes, which no compiled program would notice."""
    return any(schedules_in(rule) for rule in recipe.regularizers)


def goes_by_shares(recipe: Recipe) -> bool:
    """Whether a schedule depends on how long the whole run is."""
    return any(way.share is not None for _, piece in pieces(recipe) for way in schedules_in(piece).values())
