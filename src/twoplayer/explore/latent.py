"""The tab of latent space: ways between pictures, sums of pictures, directions, and the latents of a given picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from twoplayer.core.errors import UserError
from twoplayer.core.protocols import Bounded
from twoplayer.core.rng import Stream
from twoplayer.evaluation.directions import along, believed_direction, principal_directions, random_direction
from twoplayer.evaluation.latents import interpolate, variations
from twoplayer.explore.checked import MOST_SEED, bounded, whole
from twoplayer.explore.page import (
    COMPUTED,
    QUIETLY,
    Page,
    alone,
    classes_offered,
    in_words,
    picture_place,
    shown_picture,
    teller,
    uploaded,
)
from twoplayer.runs.grid import tile, to_picture
from twoplayer.trained import Run

BETWEEN = 101
"""Places of the slider between two pictures."""

STRIP = 9
EXEMPLARS = 40
"""Pictures to pick from."""

MOST_PICKED = 6
CONCEPTS = ("A", "B", "C")
DIRECTIONS = ("random", "believed", *(f"strongest {number}" for number in range(1, 6)))
WALKERS = 5
MOST_REACH = 10.0
RESTARTS, SEARCH_STEPS = 8, 200


def tab(page: Page, chosen: gr.Dropdown, blocks: gr.Blocks) -> None:
    """Four ways to play with z."""
    label = gr.Dropdown([], label=page.words("label"), visible=False, elem_id="latent-label")

    @in_words
    def classes(name: Any, request: gr.Request) -> Any:
        return classes_offered(page, name, request)

    chosen.change(classes, chosen, label, **QUIETLY)
    with gr.Tabs():
        for name, part in (("between", _between), ("sums", _sums), ("directions", _directions), ("recover", _recover)):
            with gr.Tab(page.words(name), id=name, elem_id=f"latent-{name}"):
                part(page, chosen, label)


def _between(page: Page, chosen: gr.Dropdown, label: gr.Dropdown) -> None:
    words = page.words
    with gr.Row():
        first = gr.Number(0, precision=0, minimum=0, maximum=MOST_SEED, label=words("seed-a"), elem_id="seed-a")
        second = gr.Number(1, precision=0, minimum=0, maximum=MOST_SEED, label=words("seed-b"), elem_id="seed-b")
    place = gr.Slider(0, BETWEEN - 1, BETWEEN // 2, step=1, label=words("place"), elem_id="place")
    show = gr.Button(words("show"), variant="primary", elem_id="show-between")
    with gr.Row():
        one = shown_picture("one", ["download"])
        strip = shown_picture("strip", ["download"])

    @in_words
    def ways(name: Any, first: Any, second: Any, label: Any) -> Tensor:
        run, ends = page.entry(name).run, (whole(first, 0, MOST_SEED, "A"), whole(second, 0, MOST_SEED, "B"))
        a, b = (run.latents_of([0], seed)[0] for seed in ends)
        return interpolate(a, b, BETWEEN, not isinstance(run.info.latents, Bounded))

    @in_words
    @alone(page)
    def drawn(name: Any, first: Any, second: Any, place: Any, label: Any) -> Any:
        at = whole(place, 0, BETWEEN - 1, "place")
        return tile(page.entry(name).run.draw(ways(name, first, second, label)[at : at + 1], label or None))

    @in_words
    @alone(page)
    def row(name: Any, first: Any, second: Any, label: Any) -> Any:
        some = ways(name, first, second, label)[:: (BETWEEN - 1) // (STRIP - 1)][:STRIP]
        return tile(page.entry(name).run.draw(some, label or None), STRIP)

    ends = [chosen, first, second]
    place.input(
        drawn, [*ends, place, label], one, **COMPUTED | {"show_progress": "hidden", "trigger_mode": "always_last"}
    )
    show.click(drawn, [*ends, place, label], one, **COMPUTED).then(row, [*ends, label], strip, **COMPUTED)


def _sums(page: Page, chosen: gr.Dropdown, label: gr.Dropdown) -> None:
    words = page.words
    gr.Markdown(words("sums-hint"), elem_classes="hint")
    with gr.Row():
        seed = gr.Number(0, precision=0, minimum=0, maximum=MOST_SEED, label=words("seed"), elem_id="sums-seed")
        concept = gr.Radio(list(CONCEPTS), value="A", label=words("picking"), elem_id="concept")
        deal = gr.Button(words("deal"), elem_id="deal")
    picked = gr.State({})
    said = gr.Markdown(elem_id="picked")
    with gr.Row():
        gallery = gr.Gallery(
            columns=8,
            height="auto",
            allow_preview=False,
            elem_id="exemplars",
            elem_classes="pixels",
            show_label=False,
            buttons=[],
        )
        with gr.Column(min_width=280):
            add = gr.Button("A - B + C", variant="primary", elem_id="add")
            result = shown_picture("sum")

    @in_words
    @alone(page)
    def dealt(name: Any, seed: Any, label: Any) -> Any:
        run = page.entry(name).run
        images = run.draw(run.latents_of(range(EXEMPLARS), whole(seed, 0, MOST_SEED, "seed")), label or None)
        pictures = [(to_picture(image), str(number)) for number, image in enumerate(images.permute(0, 2, 3, 1).numpy())]
        return pictures, {}, ""

    def pick(picked: dict[str, list[int]], concept: str, event: gr.SelectData) -> tuple[dict[str, list[int]], str]:
        numbers = list(picked.get(concept, []))
        number = int(event.index)
        numbers = [each for each in numbers if each != number] if number in numbers else [*numbers, number]
        picked = picked | {concept: numbers[-MOST_PICKED:]}
        chosen = {name: ", ".join(map(str, picked.get(name, []))) or "-" for name in CONCEPTS}
        return picked, " · ".join(f"**{name}**: {numbers}" for name, numbers in chosen.items())

    @in_words
    @alone(page)
    def added(name: Any, seed: Any, picked: Any, label: Any, request: gr.Request) -> Any:
        run, (a, b, c) = page.entry(name).run, ((picked or {}).get(name, []) for name in CONCEPTS)
        if not (a and b and c):
            raise UserError(teller(request)("pick-all"))
        center = run.arithmetic(a, b, c, whole(seed, 0, MOST_SEED, "seed"))
        return tile(run.draw(variations(center, Stream(0).child("variations")), label or None), 3)

    inputs = [chosen, seed, label]
    deal.click(dealt, inputs, [gallery, picked, said], **COMPUTED)
    gallery.select(pick, [picked, concept], [picked, said], **QUIETLY)
    add.click(added, [chosen, seed, picked, label], result, **COMPUTED)


def _directions(page: Page, chosen: gr.Dropdown, label: gr.Dropdown) -> None:
    words = page.words
    gr.Markdown(words("directions-hint"), elem_classes="hint")
    with gr.Row():
        choices = [(words(name.split()[0]) if " " not in name else name, name) for name in DIRECTIONS]
        kind = gr.Dropdown(choices, value="strongest 1", label=words("direction"), elem_id="direction")
        reach = gr.Slider(0.5, MOST_REACH, 4.0, step=0.5, label=words("reach"), elem_id="reach")
        seed = gr.Number(0, precision=0, minimum=0, maximum=MOST_SEED, label=words("seed"), elem_id="walk-seed")
    show = gr.Button(words("show"), variant="primary", elem_id="show-directions")
    walked = shown_picture("walked")

    @in_words
    @alone(page)
    def drawn(name: Any, kind: Any, reach: Any, seed: Any, label: Any) -> Any:
        run, seed = page.entry(name).run, whole(seed, 0, MOST_SEED, "seed")
        direction = direction_of(run, str(kind), seed, label or None)
        ways = along(run.latents_of(range(WALKERS), seed), direction, bounded(reach, 0.5, MOST_REACH, "reach"), STRIP)
        z = ways.flatten(0, 1)
        if isinstance(run.info.latents, Bounded):
            z = z.clamp(run.info.latents.low, run.info.latents.high)
        return tile(run.draw(z, label or None), STRIP)

    show.click(drawn, [chosen, kind, reach, seed, label], walked, **COMPUTED)


def direction_of(run: Run, kind: str, seed: int, label: Any) -> Tensor:
    """A unit vector [latent_dim]. Raises UserError."""
    info, ids = run.info, run.label_ids(label)
    told = {"labels": torch.tensor(ids[:1])} if ids else {}
    if kind == "random":
        return random_direction(info.latents.dim, Stream(seed).child("direction"))
    if kind == "believed":
        of_d = told if "labels" in run.recipe.discriminator.takes else {}
        return believed_direction((run.generator, run.discriminator), info.latents, Stream(seed), (told, of_d))
    if kind not in DIRECTIONS:
        raise UserError(f"there is no direction {kind[:40]!r}")
    number = int(kind.removeprefix("strongest "))
    found = principal_directions(run.generator, info.latents, number, told)
    if len(found) < number:
        raise UserError(f"this run has {len(found)} directions")
    return found[number - 1]


def _recover(page: Page, chosen: gr.Dropdown, label: gr.Dropdown) -> None:
    words = page.words
    gr.Markdown(words("recover-hint"), elem_classes="hint")
    with gr.Row():
        given = picture_place(words("picture"), "given", 260)
        with gr.Column():
            search = gr.Button(words("search"), variant="primary", elem_id="search")
            said = gr.Markdown(elem_id="found-said")
        found = shown_picture("found")

    @in_words
    @alone(page)
    def recovered(
        name: Any,
        path: Any,
        label: Any,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Any:
        entry, tell = page.entry(name), teller(request)
        picture = uploaded(entry, path, tell)
        watch: Callable[[int], None] = lambda step: progress(step / SEARCH_STEPS)  # noqa: E731
        best = entry.run.recover(picture, label or None, RESTARTS, steps=SEARCH_STEPS, watch=watch)
        return tile(torch.stack([picture, best.picture]), 2), tell("recovered", error=f"{best.error:.4f}")

    search.click(recovered, [chosen, given, label], [found, said], **COMPUTED | {"show_progress": "full"})
