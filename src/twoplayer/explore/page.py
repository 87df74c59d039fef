"""What the tabs of the page share: the runs, the words, and how a visitor's mistakes are answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from twoplayer.core.errors import UserError
from twoplayer.data.form import Form
from twoplayer.data.pictures import decode, header
from twoplayer.explore.entry import Entry
from twoplayer.explore.library import Library
from twoplayer.explore.words import language_of, say

MOST_PICTURES = 100
MOST_BEST_OF = 50
MOST_PIXELS = 16_000_000
"""Of an uploaded picture."""

MOST_AT_ONCE = 2
"""Visitors for whom something is computed at the same time; the others wait."""

QUIETLY: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""Of events that come by themselves."""

COMPUTED: dict[str, Any] = {"concurrency_limit": MOST_AT_ONCE, "concurrency_id": "compute", "api_visibility": "private"}
"""Of events that a visitor asks for and that take a moment."""


@dataclass(frozen=True)
class Page:
    """What the tabs share.

    Attributes:
        library: the runs that may be shown.
        words: of the page, by key, in the visitor's language.
    """

    library: Library
    words: gr.I18n

    def entry(self, name: Any) -> Entry:
        """The run that a visitor chose. Raises UserError."""
        if not isinstance(name, str) or not name:
            raise UserError("choose a run first")
        return self.library.entry(name)


def shown_picture(name: str, buttons: Sequence[str] = ("download", "fullscreen")) -> gr.Image:
    """A place for a picture, its pixels sharp."""
    chosen: list[Any] = list(buttons)
    return gr.Image(
        show_label=False, format="png", elem_id=name, elem_classes="pixels", buttons=chosen, interactive=False
    )


def class_names(entry: Entry) -> tuple[str, ...]:
    """What a visitor can ask for; empty for an unconditional generator, or where there is none yet."""
    if not (entry.folder.generator / "config.json").is_file():
        return ()
    info = entry.run.info
    return info.class_names if info.generator.takes == ("labels",) else ()


def classes_offered(page: Page, name: Any, request: gr.Request, *, any_class: bool = False) -> Any:
    """What a dropdown of classes offers for a run; hidden where the run has none."""
    names = class_names(page.entry(name)) if name else ()
    choices = [(teller(request)("all-classes"), "")] * any_class + [(each, each) for each in names]
    value = choices[0][1] if choices else None
    return gr.update(choices=choices, value=value, visible=bool(names), label=teller(request)("label"))


def class_choice(entry: Entry, label: Any) -> list[int]:
    """The id of the class that a visitor chose; none for an unconditional run. Raises UserError."""
    return entry.run.label_ids(label or None)[:1] if class_names(entry) else []


def in_words(handler: Callable[..., Any]) -> Callable[..., Any]:
    """What a visitor can mend is said on the page; nothing else of it is."""

    @wraps(handler)
    def safe(*told: Any) -> Any:
        try:
            return handler(*told)
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error
        except FileNotFoundError as error:
            raise gr.Error("this run is not there any more", print_exception=False) from error
        except OSError as error:
            raise gr.Error(error.strerror or "a file of this run cannot be read", print_exception=False) from error

    return safe


def alone(page: Page) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """For handlers whose first input is a run, or several: nobody else uses their networks meanwhile."""

    def held(handler: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(handler)
        def safe(named: Any, *told: Any) -> Any:
            names = named if isinstance(named, list) else [named]
            with ExitStack() as stack:
                for name in sorted({name for name in names if isinstance(name, str)}):
                    entry = page.entry(name)
                    stack.enter_context(entry.networks)
                    page.library.loads(entry)
                return handler(named, *told)

        return safe

    return held


class Runs(gr.Dropdown):
    """A dropdown of runs, without Gradio's own check of what was chosen: the library answers, in words."""

    is_template = True  # to the browser it is a dropdown

    def preprocess(self, payload: Any) -> Any:
        return payload


def picture_place(label: Any, name: str, height: int) -> gr.Image:
    """A place for a visitor's own picture, handed over as the file that it is: `data.pictures` decodes it."""
    place = gr.Image(type="filepath", sources=["upload", "clipboard"], label=label, elem_id=name, height=height)
    place.preprocess = lambda payload: None if payload is None else payload.path  # type: ignore[method-assign]
    return place


def uploaded(entry: Entry, path: Any, tell: Callable[..., str]) -> Tensor:
    """An uploaded picture in the run's form, uint8 [C, H, W]. Raises UserError."""
    if not isinstance(path, str) or not path or not Path(path).is_file():
        raise UserError(tell("no-picture"))
    encoded, (channels, side, _) = Path(path).read_bytes(), entry.run.info.image_shape
    width, height = header(encoded, "picture").size
    if width * height > MOST_PIXELS:
        raise UserError(tell("too-large", width=width, height=height))
    return torch.from_numpy(decode(encoded, "picture", Form(side, channels, "center")).copy())


def teller(request: gr.Request) -> Callable[..., str]:
    """Says lines in the language of whoever asks: a key and its values."""
    language = language_of(request.headers.get("accept-language"))
    return lambda key, **values: say(language, key, **values)
