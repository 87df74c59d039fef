"""The tab in which a game in the plane is played step by step: `plane.py` plays, `learn.js` draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import gradio as gr

from twoplayer.explore.checked import MOST_SEED, bounded, whole
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
from twoplayer.explore.page import COMPUTED, MOST_AT_ONCE, QUIETLY, Page, in_words, teller
from twoplayer.explore.plane import Plane
from twoplayer.explore.shapes import SHAPES
from twoplayer.explore.tables import MOST_STEPS, Table, Tables
from twoplayer.explore.told import told

SECONDS_BETWEEN_TICKS = 0.1
SPEEDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, float("inf"))
"""Steps per second; the last is as fast as it goes."""

NOTHING = ""
"""No regularizer."""

PLAYED: dict[str, Any] = {"concurrency_limit": MOST_AT_ONCE, "concurrency_id": "plane"} | QUIETLY
"""Of the ticks: they wait for one another, and for nothing else on the page."""

MOVES: dict[str, Callable[[Plane], object]] = {
    "step": lambda game: game.play(1),
    "d": Plane.move_discriminator,
    "g": Plane.move_generator,
}
"""A full step, and one player alone."""


@dataclass(frozen=True)
class Place:
    """What all buttons work on.

    Attributes:
        tables: the games of all visitors.
        number: which of them is this visitor's.
        plane: where it is drawn.
        controls: what is chosen for the next one.
    """

    tables: Tables
    number: gr.State
    plane: Any
    controls: list[Any]

    @property
    def asked(self) -> list[Any]:
        """What a handler is given that needs a game: a forgotten one is begun anew."""
        return [self.number, *self.controls]

    @property
    def answered(self) -> list[Any]:
        """Where `shown` goes."""
        return [self.plane, self.number]

    def table(self, number: int | None, *said: Any) -> Table:
        """The visitor's, or a new one."""
        return self.tables.at(number) or self.tables.open(choice_of(*said))


def tab(page: Page, chosen: gr.Dropdown, blocks: gr.Blocks) -> None:
    """The plane, the players' moves, and what is played."""
    words = page.words
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
    place = Place(Tables(), gr.State(), plane, controls)
    wire_games(place, new, tries)
    wire_moves(place, moves)
    wire_play(page, place, play, speed)


def wire_games(place: Place, new: gr.Button, tries: dict[str, gr.Button]) -> None:
    """How games begin: when somebody looks for the first time, by the button, and by each experiment."""

    @in_words
    def begin(request: gr.Request, *said: Any) -> tuple[Any, Any]:
        return shown(place.tables.open(choice_of(*said)), request)

    @in_words
    def arrive(request: gr.Request, *asked: Any) -> tuple[Any, Any]:
        return shown(place.table(*asked), request)

    def saying(choice: Choice) -> Callable[[], list[Any]]:
        return lambda: said_by(choice)

    new.click(begin, place.controls, place.answered, **COMPUTED)
    place.plane.arrived(arrive, place.asked, place.answered, **PLAYED)
    for name, button in tries.items():
        chosen = button.click(saying(EXPERIMENTS[name]), None, place.controls, **QUIETLY)
        chosen.then(begin, place.controls, place.answered, **COMPUTED)


def wire_moves(place: Place, moves: dict[str, gr.Button]) -> None:
    """The buttons that make a single move."""

    def moving(move: Callable[[Plane], object]) -> Callable[..., Any]:
        @in_words
        def moved(request: gr.Request, *asked: Any) -> tuple[Any, Any]:
            at = place.table(*asked)
            move(at.game)
            return shown(at, request)

        return moved

    for name, button in moves.items():
        button.click(moving(MOVES[name]), place.asked, place.answered, **PLAYED)


def wire_play(page: Page, place: Place, play: gr.Button, speed: gr.Slider) -> None:
    """The game that goes on by itself: a timer ticks while it is played, and at no other time."""
    timer, playing = gr.Timer(SECONDS_BETWEEN_TICKS, active=False), gr.State(False)

    def turned(on: bool) -> tuple[Any, ...]:
        word, variant = ("rest", "secondary") if on else ("play", "primary")
        return gr.Timer(active=on), gr.update(value=page.words(word), variant=variant), on

    @in_words
    def start_or_rest(request: gr.Request, on: bool, *asked: Any) -> tuple[Any, ...]:
        at = place.table(*asked)
        at.rest()
        return *shown(at, request), *turned(not on)

    @in_words
    def tick(request: gr.Request, number: Any, speed: Any) -> tuple[Any, ...]:
        at = place.tables.at(number)
        if at is None:
            return gr.skip(), gr.skip(), *turned(False)
        if not at.tick(SPEEDS[whole(speed, 1, len(SPEEDS), "speed") - 1]):
            return (gr.skip(),) * 5
        ends = at.game.diverged is not None or at.played >= MOST_STEPS
        return *shown(at, request), *(turned(False) if ends else (gr.skip(),) * 3)

    states = [timer, play, playing]
    play.click(start_or_rest, [playing, *place.asked], [*place.answered, *states], **QUIETLY)
    place.plane.left(lambda: turned(False), None, states, **QUIETLY)
    timer.tick(tick, [place.number, speed], [*place.answered, *states], **PLAYED)


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


def shown(at: Table, request: gr.Request) -> tuple[dict[str, Any], int]:
    """What the canvas is told, and the table's number."""
    view, tell = at.game.look(), teller(request)
    return told(view, tell) | {"game": at.number}, at.number
