"""What `auto` has to know before it can choose: a look at the data and at the device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import zip_longest
from textwrap import wrap
from typing import Any

import numpy as np
import torch
from torch import Tensor

from twoplayer.core.batch import to_float
from twoplayer.core.errors import UserError
from twoplayer.core.stop import StopRequest
from twoplayer.data.form import Form
from twoplayer.data.images import ImageData
from twoplayer.data.inspect import may_be_skipped
from twoplayer.data.source import Source, open_source, some_of, title_of
from twoplayer.data.survey import Survey
from twoplayer.loading import load_data
from twoplayer.recipes.auto import Choice, Facts, batch_of, recipe_tree
from twoplayer.recipes.load import AUTO, Override, check, merge, value_at
from twoplayer.recipes.schema import DataOptions, Recipe
from twoplayer.session import explaining_memory

COMPARED = 1000
"""Images whose mirror images are compared with as many others."""

LEAST_COMPARED = 50
"""Fewer say nothing: their mean would be chance."""

NARROWEST = 30
"""Columns that a reason is given at least."""

LONGEST_NAME = 100
"""Of a recipe."""

COLORLESS = 8
"""How far the channels of a gray picture may lie apart, of 255: what JPEG leaves."""


@dataclass(frozen=True)
class Chosen:
    """What `auto` made of some data.

    Attributes:
        recipe: complete; its `reasons` say why.
        seen: what the data is, in words.
    """

    recipe: Recipe
    seen: str

    def lines(self, columns: int | None = None) -> list[str]:
        """What was seen and each choice with its reason, for a person.

        Args:
            columns: where reasons are broken, if that leaves room for words; None: nowhere.
        """
        tree = self.recipe.model_dump(mode="json")
        said = {key: f"{key}={written(value_at(tree, key))}" for key in self.recipe.reasons}
        width = max((len(words) for words in said.values()), default=0) + 2
        room = None if columns is None else max(columns - width, NARROWEST)
        lines = [f"auto: {self.seen}"]
        for key, words in said.items():
            reason = self.recipe.reasons[key]
            broken = [reason] if room is None else wrap(reason, room, break_on_hyphens=False)
            lines += [f"{first:{width}}{part}" for first, part in zip_longest([words], broken, fillvalue="")]
        return lines


def choose_recipe(
    changes: list[Override], device: torch.device, *, quiet: bool, stop: StopRequest, processes: int = 1
) -> Chosen:
    """The recipe that suits the data which the changes name; what they say is not chosen.

    Args:
        changes: the user's words.
        device: where the training will be.
        quiet: show no progress of decoding.
        stop: where signals are noticed.
        processes: how many train together.

    Raises UserError where no data is named, or something that was said is wrong.
    """
    unseen = merge(recipe_tree(Facts(COMPARED, (1, 32, 32))), changes)
    if not isinstance(unseen["data"], dict) or "source" not in unseen["data"]:
        raise UserError("auto looks at the data first: twoplayer train auto --data SOURCE")
    skeleton = check(unseen)
    said = skeleton.data
    source = open_source(said.source)
    with explaining_memory(skeleton):
        seen = form_choices(source.survey(said.split), said)
        options = said.model_copy(update={choice.key.removeprefix("data."): choice.value for choice in seen})
        data = load_data(options, quiet=quiet, stop=stop)
        if data.count < processes:
            raise UserError(f"{data.count} images in {data.name} cannot be shared by {processes} processes")
        facts = with_words(replace(facts_of(data, source, options, device), processes=processes), changes, skeleton)
    tree = recipe_tree(facts, seen) | {"name": f"{AUTO}-{title_of(source.text)}"[:LONGEST_NAME]}
    tree["data"]["source"] = said.source
    recipe = check(merge(tree, changes))
    return Chosen(recipe, in_words(facts, data, changed=recipe.data.image_size is not None))


def with_words(facts: Facts, changes: list[Override], said: Recipe) -> Facts:
    """The facts with what a user said that other choices follow."""
    words = {path[0] for path, _ in changes}
    if "batch_size" in words:
        facts = replace(facts, batch_size=said.batch_size)
    if words & {"steps", "epochs"}:
        facts = replace(facts, steps=said.total_steps(max(facts.n // batch_of(facts).value, 1)))
    augmented = any(path[0] == "augmentation" and len(path) > 1 for path, _ in changes)
    return replace(facts, augmented=augmented, discriminator_steps=said.play.discriminator_steps)


def form_choices(survey: Survey, said: DataOptions) -> list[Choice]:
    """What the pictures have to be brought to, where nothing was said about it."""
    found: list[Choice] = []
    form = survey.form
    if said.cache == "none":
        form = Form(form.image_size or min(min(survey.sizes, default=(1, 1))), form.channels)
    if said.image_size is None and form.image_size is not None:
        found.append(Choice("data.image_size", form.image_size, _why_that_size(survey)))
    if said.channels is None and len(survey.sheet) and form.channels == 3 and is_colorless(survey.sheet):
        found.append(Choice("data.channels", 1, "the pictures looked at are gray, though their files could hold color"))
    elif said.channels is None and (len(survey.modes) > 1 or said.cache == "none"):
        kinds = " and ".join(mode for mode, _ in survey.modes.most_common(2))
        found.append(Choice("data.channels", form.channels, f"the files hold {kinds}"))
    if said.bad_images == "error" and said.cache != "none" and may_be_skipped(survey):
        found.append(Choice("data.bad_images", "skip", f"{len(survey.broken):,} cannot be read; others are enough"))
    return found


def _why_that_size(survey: Survey) -> str:
    if survey.form.image_size is None:
        return "the size of all pictures, which has to be said where they are decoded as they come"
    sizes = f"{len(survey.sizes):,} sizes" if len(survey.sizes) > 1 else "large pictures"
    return f"{sizes}: a power of two that most reach, at most 64"


def is_colorless(sheet: np.ndarray) -> bool:
    """Whether pictures uint8 [n, 3, H, W] hold no color."""
    channels = sheet.astype(np.int16)
    return int((channels.max(1) - channels.min(1)).max()) <= COLORLESS


def facts_of(data: ImageData, source: Source, options: DataOptions, device: torch.device) -> Facts:
    """What the choices depend on."""
    held_out = options.split == "train" and source.has_test()
    mirrored = None if data.streamed is not None else mirrored_distance(data.images)
    return Facts(data.count, data.shape, held_out, mirrored, device.type != "cpu")


def mirrored_distance(images: Tensor) -> float | None:
    """How many times as far from other images a mirror image is as the image itself.

    Images are compared by their pixels with up to 1,000 others; distances are to the nearest. About 1 where mirror
    images are as likely as images; 1.3 for handwritten digits. None where fewer than 50 can be compared, be it that
    there are no more or that copies leave no distance.

    Args:
        images: uint8 [N, C, H, W].
    """
    chosen = to_float(images[some_of(len(images), 2 * COMPARED)])
    half = len(chosen) // 2
    if half < LEAST_COMPARED:
        return None
    ones, others = chosen[:half], chosen[half : 2 * half].flatten(1)
    near, mirrored = (torch.cdist(each.flatten(1), others).min(1).values for each in (ones, ones.flip(3)))
    apart = (near > 0.0) & (mirrored > 0.0)
    if int(apart.sum()) < LEAST_COMPARED:
        return None
    return float((mirrored[apart] / near[apart]).log().mean().exp())


def in_words(facts: Facts, data: ImageData, *, changed: bool) -> str:
    """What was seen; `changed`: pictures are brought to that size."""
    kind = "gray" if facts.shape[0] == 1 else "color"
    held = "others are held out" if facts.held_out else "none are held out"
    form = "brought to" if changed else "of their own"
    return f"{facts.n:,} {kind} images {form} {facts.words} from {data.name}; {held}"


def written(value: Any) -> str:
    """A value as a user would write it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
