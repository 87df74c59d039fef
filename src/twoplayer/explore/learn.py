"""The tab in which a game in the plane is played step by step: `plane.py` plays, `learn.js` draws."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import count
from typing import Any

import gradio as gr

from twoplayer.explore.choices import (
    EXPERIMENTS,
    FASTEST,
    MOST_DISCRIMINATOR_STEPS,
    SLOWEST,
    STRONGEST,
    Choice,
    objectives,
    optimizers,
    regularizers,
    strength_of,
)
from twoplayer.explore.page import COMPUTED, MOST_SEED, QUIETLY, Page, bounded, in_words, teller, whole
from twoplayer.explore.plane import Plane
from twoplayer.explore.shapes import SHAPES
from twoplayer.explore.told import told

SECONDS_BETWEEN_TICKS = 0.1
SECONDS_OF_PLAY = 0.15
"""Of computing in each tick."""

SPEEDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, math.inf)
"""Steps per second; the last is as fast as it goes."""

MOST_STEPS = 20_000
"""Played without a click; then it rests, because perhaps nobody looks any more."""

SECONDS_KEPT = 1800
"""A game that nobody plays is forgotten then."""

NOTHING = ""
"""No regularizer."""

PLAYED: dict[str, Any] = {"concurrency_limit": 2, "concurrency_id": "plane"} | QUIETLY
"""Of the ticks: they wait for one another, and for nothing else on the page."""

MOVES: dict[str, Callable[[Plane], object]] = {
    "step": lambda game: game.play(1),
    "d": Plane.move_discriminator,
    "g": Plane.move_generator,
}
"""A full step, and one player alone."""

_numbers = count(1)


@dataclass
class Table:
    """Where a visitor plays. Nobody else sits there.

    Attributes:
        game: what is played.
        number: of the game, so that the page knows a new one.
        owed: steps that should have been played by now and were not.
        told: when the last tick came.
        played: steps since the last click.
    """

    game: Plane
    number: int = field(default_factory=lambda: next(_numbers))
    owed: float = 0.0
    told: float = 0.0
    played: int = 0

    def rest(self) -> None:
        """What was owed is forgotten."""
        self.owed, self.told, self.played = 0.0, time.monotonic(), 0

    def tick(self, speed: float) -> int:
        """Play what is due at so many steps per second, within the time of a tick. How many were played."""
        now = time.monotonic()
        passed, self.told = min(now - self.told, 1.5), now
        self.owed = MOST_STEPS if math.isinf(speed) else self.owed + speed * passed
        if self.owed < 1.0:
            return 0
        played = self.game.play(int(self.owed), SECONDS_OF_PLAY)
        self.owed = min(self.owed - played, 1.0)
        self.played += played
        return played


def tab(page: Page, chosen: gr.Dropdown, blocks: gr.Blocks) -> None:
    """The plane, the players' moves, and what is played."""
    words, table = page.words, gr.State(time_to_live=SECONDS_KEPT)
    gr.Markdown(words("learn-hint"), elem_classes="hint")
    with gr.Row():
        with gr.Column(min_width=320, scale=3):
            with gr.Row(elem_id="moves"):
                play = gr.Button(words("play"), variant="primary", min_width=60, elem_id="play")
                moves = {name: gr.Button(words(f"move-{name}"), min_width=60, elem_id=f"move-{name}") for name in MOVES}
            plane = canvas()
            pace: dict[str, Any] = {"label": words("pace"), "info": words("pace-info")}
            speed = gr.Slider(1, len(SPEEDS), len(SPEEDS), step=1, elem_id="pace", **pace)
        with gr.Column(min_width=320, scale=2):
            controls = controls_of(page)
            new = gr.Button(words("new-game"), variant="primary", elem_id="new-game")
            gr.Markdown(words("experiments"), elem_classes="hint")
            with gr.Row():
                tries = {
                    name: gr.Button(words(f"try-{name}"), size="sm", min_width=150, elem_id=f"try-{name}")
                    for name in EXPERIMENTS
                }
    gr.Markdown(words("learn-what"), elem_id="learn-what")
    wire_games(plane, table, controls, new, tries)
    wire_moves(plane, table, controls, moves)
    wire_play(page, plane, table, play, speed)


def wire_games(plane: Any, table: gr.State, controls: list[Any], new: gr.Button, tries: dict[str, gr.Button]) -> None:
    """How games begin: when somebody looks for the first time, by the button, and by each experiment."""

    @in_words
    def begin(request: gr.Request, *said: Any) -> tuple[Any, Any]:
        return shown(Table(Plane(choice_of(*said))), request)

    @in_words
    def arrive(request: gr.Request, at: Table | None, *said: Any) -> tuple[Any, Any]:
        return shown(at or Table(Plane(choice_of(*said))), request)

    def saying(choice: Choice) -> Callable[[], list[Any]]:
        return lambda: said_by(choice)

    outputs = [plane, table]
    new.click(begin, controls, outputs, **COMPUTED)
    plane.arrived(arrive, [table, *controls], outputs, **PLAYED)
    for name, button in tries.items():
        chosen = button.click(saying(EXPERIMENTS[name]), None, controls, **QUIETLY)
        chosen.then(begin, controls, outputs, **COMPUTED)


def wire_moves(plane: Any, table: gr.State, controls: list[Any], moves: dict[str, gr.Button]) -> None:
    """The buttons that make a single move; where a game was forgotten, the move is the first of a new one."""

    def moving(move: Callable[[Plane], object]) -> Callable[..., Any]:
        @in_words
        def moved(request: gr.Request, at: Table | None, *said: Any) -> tuple[Any, Any]:
            at = at or Table(Plane(choice_of(*said)))
            move(at.game)
            return shown(at, request)

        return moved

    for name, button in moves.items():
        button.click(moving(MOVES[name]), [table, *controls], [plane, table], **PLAYED)


def wire_play(page: Page, plane: Any, table: gr.State, play: gr.Button, speed: gr.Slider) -> None:
    """The game that goes on by itself: a timer ticks while it is played, and at no other time."""
    timer, playing = gr.Timer(SECONDS_BETWEEN_TICKS, active=False), gr.State(False)

    def turned(on: bool) -> tuple[Any, ...]:
        look: dict[str, Any] = {
            "value": page.words("rest" if on else "play"),
            "variant": "secondary" if on else "primary",
        }
        return gr.Timer(active=on), gr.update(**look), on

    def start_or_rest(on: bool, at: Table | None) -> tuple[Any, ...]:
        if at is not None:
            at.rest()
        return turned(not on and at is not None)

    @in_words
    def tick(request: gr.Request, at: Table | None, speed: Any) -> tuple[Any, ...]:
        if at is None:
            return gr.skip(), gr.skip(), *turned(False)
        if not at.tick(SPEEDS[whole(speed, 1, len(SPEEDS), "speed") - 1]):
            return (gr.skip(),) * 5
        ends = at.game.diverged is not None or at.played >= MOST_STEPS
        return *shown(at, request), *(turned(False) if ends else (gr.skip(),) * 3)

    states = [timer, play, playing]
    play.click(start_or_rest, [playing, table], states, **QUIETLY)
    plane.left(lambda: turned(False), None, states, **QUIETLY)
    timer.tick(tick, [table, speed], [plane, table, *states], **PLAYED)


def canvas() -> Any:
    """Where the plane is drawn; its value is what `told` makes."""
    template, script = (
        files("twoplayer.explore").joinpath(f"learn.{kind}").read_text("utf-8") for kind in ("html", "js")
    )
    return gr.HTML(None, html_template=template, js_on_load=script, apply_default_css=False, elem_id="plane")


def controls_of(page: Page) -> list[Any]:
    """What is chosen for a game, in the order of `choice_of`; less usual choices are folded away."""
    words, usual = page.words, said_by(Choice())
    rules = [("-", NOTHING), *((name, name) for name in regularizers())]
    rate: dict[str, Any] = {"minimum": SLOWEST, "maximum": FASTEST, "min_width": 130}
    strong: dict[str, Any] = {"minimum": 0.0, "maximum": STRONGEST, "min_width": 110, "label": words("strength")}
    data = gr.Radio(list(SHAPES), value=usual[0], label=words("points"), elem_id="points")
    objective = gr.Dropdown(list(objectives()), value=usual[1], label=words("objective"), elem_id="objective")
    with gr.Row():
        one = gr.Dropdown(rules, value=usual[2], label=words("regularizer"), min_width=150, elem_id="regularizer")
        one_strength = gr.Number(usual[3], elem_id="strength", **strong)
    with gr.Accordion(words("more"), open=False, elem_id="more"):
        with gr.Row():
            two = gr.Dropdown(rules, value=usual[4], label=words("second-regularizer"), min_width=150)
            two_strength = gr.Number(usual[5], **strong)
        optimizer = gr.Dropdown(optimizers(), value=usual[6], label=words("optimizer"), elem_id="optimizer")
        with gr.Row():
            rate_g = gr.Number(usual[7], label=words("rate-g"), elem_id="rate-g", **rate)
            rate_d = gr.Number(usual[8], label=words("rate-d"), elem_id="rate-d", **rate)
        d_steps = gr.Slider(1, MOST_DISCRIMINATOR_STEPS, usual[9], step=1, label=words("d-steps"), elem_id="d-steps")
        seed = gr.Number(usual[10], precision=0, minimum=0, maximum=MOST_SEED, label=words("seed"), elem_id="game-seed")

    def usually(name: Any) -> float | None:
        return strength_of(name) if name else None

    for rule, strength in ((one, one_strength), (two, two_strength)):
        rule.input(in_words(usually), rule, strength, **QUIETLY)
    return [data, objective, one, one_strength, two, two_strength, optimizer, rate_g, rate_d, d_steps, seed]


def choice_of(*said: Any) -> Choice:
    """The game that the controls say. Raises UserError for numbers that are none."""
    data, objective, one, one_strength, two, two_strength, optimizer, rate_g, rate_d, d_steps, seed = said
    rules = [(name, strength) for name, strength in ((one, one_strength), (two, two_strength)) if name != NOTHING]
    return Choice(
        data,
        objective,
        tuple((name, None if given is None else bounded(given, 0.0, STRONGEST, "strength")) for name, given in rules),
        optimizer,
        bounded(rate_g, SLOWEST, FASTEST, "learning rate of G"),
        bounded(rate_d, SLOWEST, FASTEST, "learning rate of D"),
        whole(d_steps, 1, MOST_DISCRIMINATOR_STEPS, "D steps per G step"),
        whole(seed, 0, MOST_SEED, "seed"),
    )


def said_by(choice: Choice) -> list[Any]:
    """What the controls say for a game; the other way round of `choice_of`."""
    rules = [*choice.regularizers, *[(NOTHING, None)] * 2][:2]
    rates = choice.generator_rate, choice.discriminator_rate
    told = [value for rule in rules for value in rule]
    return [choice.data, choice.objective, *told, choice.optimizer, *rates, choice.discriminator_steps, choice.seed]


def shown(at: Table, request: gr.Request) -> tuple[dict[str, Any], Table]:
    """What the canvas is told, and the table, which is kept for a while longer."""
    view, tell = at.game.look(), teller(request)
    return told(view, tell) | {"game": at.number}, at
