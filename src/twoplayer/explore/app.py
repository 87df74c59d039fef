"""The page put together from its tabs, and served."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from twoplayer.core.console import say
from twoplayer.explore import compare, judge, latent, learn, runs, sample, watch
from twoplayer.explore.address import is_own
from twoplayer.explore.guard import Guard
from twoplayer.explore.library import Library
from twoplayer.explore.page import QUIETLY, Page, Runs
from twoplayer.explore.words import translations

TABS = {tab.__name__.rpartition(".")[2]: tab.tab for tab in (runs, watch, sample, latent, compare, judge, learn)}

NICENESS = 5
"""A training on the same machine goes first."""

MOST_WAITING = 20
MOST_LOOKING = 8
"""Visitors whose pages are brought up to date at the same time: that reads files and computes nothing."""

SECONDS_BETWEEN_GLANCES = 0.05
"""At what visitors asked for; Gradio's own millisecond keeps a tenth of a core busy while nobody asks for anything."""

LARGEST_UPLOAD = "20mb"
SECONDS_KEPT = 3600
"""Pictures that were shown lie on the disk this long."""


def build(root: Path) -> tuple[gr.Blocks, gr.I18n]:
    """The page and its languages.

    Args:
        root: the folder whose runs are shown.
    """
    languages = gr.I18n(**translations())
    page = Page(Library(root), languages)
    with gr.Blocks(title="twoplayer", analytics_enabled=False, delete_cache=(SECONDS_KEPT, SECONDS_KEPT)) as blocks:
        with gr.Row(elem_id="head"):
            gr.Markdown("# twoplayer", elem_id="title")
            chosen = Runs([], label=languages("run"), elem_id="chosen", interactive=True, filterable=True)
        with gr.Tabs(elem_id="tabs"):
            places, timers = {}, {}
            for name, tab in TABS.items():
                with gr.Tab(languages(name), id=name, elem_id=f"tab-{name}") as places[name]:
                    timers[name] = tab(page, chosen, blocks)
        _let_rest(places, {name: timer for name, timer in timers.items() if timer is not None})
    return blocks, languages


def _let_rest(places: dict[str, gr.Tab], timers: dict[str, gr.Timer]) -> None:
    """A tab looks for news only while it is the one that is seen."""
    for name, place in places.items():
        seen = [gr.Timer(active=name == each) for each in timers]
        place.select(lambda seen=seen: seen if len(seen) > 1 else seen[0], None, list(timers.values()), **QUIETLY)


def serve(root: Path, host: str, port: int, user: str | None, password: str | None) -> None:
    """Serve the page until Ctrl-C.

    Args:
        root: the folder whose runs are shown.
        host: the address to listen at; all of it was found fit by `require_servable`.
        port: to listen at.
        user: who may look.
        password: of the user.
    """
    with suppress(AttributeError, OSError):  # there is no such thing on Windows
        os.nice(NICENESS)
    blocks, languages = build(root)
    style = files("twoplayer.explore").joinpath("style.css").read_text(encoding="utf-8")
    reached = socket.gethostname() if host == "0.0.0.0" else host
    say(f"http://{reached}:{port} shows the runs in {root}; Ctrl-C ends it")
    blocks.queue(max_size=MOST_WAITING, default_concurrency_limit=MOST_LOOKING, api_open=False)
    blocks._queue.sleep_when_free = SECONDS_BETWEEN_GLANCES
    blocks.launch(
        server_name=host,
        server_port=port,
        share=False,
        auth=(user, password) if user and password else None,
        i18n=languages,
        theme=theme(),
        css=style,
        footer_links=[],
        max_file_size=LARGEST_UPLOAD,
        quiet=True,
        mcp_server=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        app_kwargs={
            "middleware": [Middleware(Guard, own=is_own(host))],
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
        },
    )


def theme() -> Any:
    """Plain, with the system's own fonts: nothing is loaded from elsewhere."""
    return gr.themes.Default(
        primary_hue="teal",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
