"""The tab of the discriminator: how it judges pictures, real against fake, and what its features respond to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from twoplayer.core.batch import to_float
from twoplayer.core.errors import UserError
from twoplayer.core.modes import mode
from twoplayer.core.protocols import Probabilistic
from twoplayer.core.verdict import Verdict
from twoplayer.evaluation.features import feature_maps
from twoplayer.evaluation.guided import strongest_responses
from twoplayer.explore.checked import whole
from twoplayer.explore.entry import Entry
from twoplayer.explore.page import (
    COMPUTED,
    QUIETLY,
    Page,
    alone,
    class_choice,
    classes_offered,
    in_words,
    picture_place,
    shown_picture,
    teller,
    uploaded,
)
from twoplayer.runs.grid import tile, to_picture
from twoplayer.runs.sampling import in_turn
from twoplayer.trained import Run

IMAGES = 256
"""Of each kind, for the histogram."""

SHOWN = 16
"""Of each kind, to look at."""

BLOCK = 64
"""Pictures that D sees together: some discriminators compare them."""

BINS = 24
CHANNELS, RESPONDING = 6, 5
MOST_LAYERS = 8
COLORS = {"real": "#6366f1", "fake": "#0d9488"}


@dataclass(frozen=True)
class Marks:
    """How D judges a run's fakes and reals.

    Attributes:
        reals: real pictures, uint8 [N, C, H, W].
        fakes: as many of the averaged generator.
        on_reals: D's value of each, [N].
        on_fakes: the same, [N].
        is_probability: whether the values are D's probabilities that a picture is real; else they are logits.
    """

    reals: Tensor
    fakes: Tensor
    on_reals: Tensor
    on_fakes: Tensor
    is_probability: bool


def tab(page: Page, chosen: gr.Dropdown, blocks: gr.Blocks) -> None:
    """How it judges; what it says of one picture; what its features respond to."""
    gr.Markdown(page.words("judge-hint"), elem_classes="hint")
    galleries, shown = _judged(page, chosen)
    given = _asked(page, chosen)
    _features(page, chosen)

    for place, each in enumerate(galleries):

        @in_words
        def picked(shown: Any, event: gr.SelectData, place: int = place) -> Any:
            pictures = (shown or ((), ()))[place]
            return to_picture(pictures[whole(event.index, 0, len(pictures) - 1, "picture")].permute(1, 2, 0).numpy())

        each.select(picked, shown, given, **QUIETLY)


def _judged(page: Page, chosen: gr.Dropdown) -> tuple[tuple[gr.Gallery, gr.Gallery], gr.State]:
    """Histogram and pictures with D's values; the galleries, and what is in them."""
    words = page.words
    show = gr.Button(words("judge-show"), variant="primary", elem_id="judge-show")
    said = gr.Markdown(elem_id="judge-said")
    with gr.Row():
        with gr.Column(min_width=320):
            gr.Markdown(words("hist"))
            axes: dict[str, Any] = {"x": "value", "y": "share", "color": "pictures", "color_map": COLORS}
            histogram = gr.LinePlot(**axes, height=340, elem_id="histogram", show_label=False)
        with gr.Column(min_width=320):
            gr.Markdown(words("judged-reals"))
            on_reals = gallery("judged-reals")
            gr.Markdown(words("judged-fakes"))
            on_fakes = gallery("judged-fakes")
    shown = gr.State()

    @in_words
    @alone(page)
    def looked(name: Any, request: gr.Request) -> tuple[Any, ...]:
        marks, tell = marks_of(page.entry(name)), teller(request)
        reals, fakes = surest(marks.reals, marks.on_reals), surest(marks.fakes, marks.on_fakes)
        pictures = tuple(torch.stack([picture for picture, _ in each]) for each in (reals, fakes))
        return summary(marks, tell), shares_of(marks), captioned(reals), captioned(fakes), pictures

    show.click(looked, chosen, [said, histogram, on_reals, on_fakes, shown], **COMPUTED)
    return (on_reals, on_fakes), shown


def _asked(page: Page, chosen: gr.Dropdown) -> gr.Image:
    """One picture; the place for it."""
    words = page.words
    with gr.Row():
        given = picture_place(words("picture"), "judge-given", 240)
        with gr.Column():
            label = gr.Dropdown([], label=words("label"), visible=False, elem_id="judge-label")
            ask = gr.Button(words("ask"), elem_id="ask")
            answer = gr.Markdown(elem_id="answer")

    @in_words
    @alone(page)
    def asked(name: Any, path: Any, label: Any, request: gr.Request) -> str:
        entry, tell = page.entry(name), teller(request)
        picture, marks = uploaded(entry, path, tell), marks_of(entry)
        ids = class_choice(entry, label)
        among = torch.cat([picture[None], marks.reals[: BLOCK - 1]])
        value = float(values_of(entry.run, among, ids * len(among))[0])
        reals, fakes = (f"{100 * float((value > on).double().mean()):.0f}" for on in (marks.on_reals, marks.on_fakes))
        key = "answer-p" if marks.is_probability else "answer-l"
        return tell(key, value=f"{value:.3f}", reals=reals, fakes=fakes)

    @in_words
    def classes(name: Any, request: gr.Request) -> Any:
        return classes_offered(page, name, request)

    chosen.change(classes, chosen, label, **QUIETLY)
    ask.click(asked, [chosen, given, label], answer, **COMPUTED)
    return given


def _features(page: Page, chosen: gr.Dropdown) -> None:
    """Images that channels respond to, and to what in them."""
    words = page.words
    with gr.Row():
        layer = gr.Slider(1, MOST_LAYERS, 1, step=1, label=words("layer"), info=words("layer-info"), elem_id="layer")
        features = gr.Button(words("features"), elem_id="features")
    responses = shown_picture("responses")

    @in_words
    @alone(page)
    def responded(name: Any, layer: Any) -> Any:
        entry = page.entry(name)
        run, (reals, labels) = entry.run, entry.reals
        told = told_to(run, [] if labels is None else labels.tolist(), len(reals))
        first = {name: values[:1] for name, values in told.items()}
        layers = len(feature_maps(run.discriminator, to_float(reals[:1]), first))
        number = min(whole(layer, 1, max(layers, MOST_LAYERS), "layer"), layers)
        found = strongest_responses(run.discriminator, reals, number - 1, CHANNELS, min(RESPONDING, len(reals)), told)
        heads = [t for c in found.channels for t in (f"#{c}", "")]
        return tile(found.tiles(), 2 * len(found.channels), heads), gr.update(maximum=max(layers, 2), value=number)

    def begin_anew() -> Any:
        return gr.update(maximum=MOST_LAYERS, value=1)

    features.click(responded, [chosen, layer], [responses, layer], **COMPUTED)
    chosen.change(begin_anew, None, layer, **QUIETLY)


def gallery(name: str) -> gr.Gallery:
    """A place for pictures with D's value of each."""
    return gr.Gallery(
        columns=8, height="auto", elem_id=name, elem_classes="pixels", show_label=False, allow_preview=False, buttons=[]
    )


def surest(pictures: Tensor, values: Tensor) -> list[tuple[Tensor, float]]:
    """Some pictures uint8 [N, C, H, W] and their values, the highest first."""
    order = values[:SHOWN].argsort(descending=True).tolist()
    return [(pictures[place], float(values[place])) for place in order]


def captioned(judged: list[tuple[Tensor, float]]) -> list[tuple[Any, str]]:
    """The same for a gallery."""
    return [(to_picture(picture.permute(1, 2, 0).numpy()), f"{value:.2f}") for picture, value in judged]


def marks_of(entry: Entry) -> Marks:
    """D's values on real pictures and on fakes of the same number. Raises UserError."""
    run, (reals, labels) = entry.run, entry.reals
    ids = [] if labels is None else labels.tolist()
    n = len(reals)
    fakes = run.sample(n)
    fake_ids = in_turn(run.label_ids(None), n).tolist() if "labels" in run.info.generator.takes else ids
    return Marks(
        reals,
        fakes,
        values_of(run, reals, ids),
        values_of(run, fakes, fake_ids),
        isinstance(run.recipe.objective, Probabilistic),
    )


@torch.no_grad()
def values_of(run: Run, pictures: Tensor, ids: list[int]) -> Tensor:
    """D's probability that pictures uint8 [N, C, H, W] are real, or its logits where there is none: [N]."""
    objective, found = run.recipe.objective, []
    told = told_to(run, ids, len(pictures))
    with mode(run.discriminator, training=False):
        for start in range(0, len(pictures), BLOCK):
            some = slice(start, start + BLOCK)
            verdict: Verdict = run.discriminator(
                to_float(pictures[some]), **{name: values[some] for name, values in told.items()}
            )
            found.append(objective.probability(verdict) if isinstance(objective, Probabilistic) else verdict.logits)
    return torch.cat(found).float()


def told_to(run: Run, ids: list[int], n: int) -> dict[str, Tensor]:
    """What D is told beside n pictures. Raises UserError where that is not known."""
    takes = run.recipe.discriminator.takes
    if not takes:
        return {}
    if takes != ("labels",) or len(ids) < n:
        raise UserError(f"this discriminator is told {' and '.join(takes)}, which is not known here")
    return {"labels": torch.tensor(ids[:n])}


def shares_of(marks: Marks) -> pd.DataFrame:
    """Shares of the reals and of the fakes by D's value, in bins."""
    both = torch.cat([marks.on_reals, marks.on_fakes])
    ends = (0.0, 1.0) if marks.is_probability else (float(both.min()), float(both.max()) + 1e-6)
    edges = np.linspace(*ends, BINS + 1)
    middles = (edges[:-1] + edges[1:]) / 2.0
    parts = [
        pd.DataFrame({"value": middles, "share": np.histogram(values, edges)[0] / len(values), "pictures": kind})
        for kind, values in (("real", marks.on_reals.numpy()), ("fake", marks.on_fakes.numpy()))
    ]
    return pd.concat(parts, ignore_index=True)


def summary(marks: Marks, tell: Callable[..., str]) -> str:
    """How often D is right, in a sentence."""
    pairs = (marks.on_reals[:, None] > marks.on_fakes[None, :]).double().mean()
    return tell(
        "judge-p" if marks.is_probability else "judge-l",
        real=f"{float(marks.on_reals.mean()):.2f}",
        fake=f"{float(marks.on_fakes.mean()):.2f}",
        pairs=f"{100 * float(pairs):.0f}",
        n=len(marks.reals),
    )
