"""`twoplayer explore`."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer


def explore(
    runs: Annotated[Path, typer.Argument(metavar="[RUNS]", help="A run, or a folder with runs in it.")] = Path("runs"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where the page is served.")] = 7860,
    host: Annotated[str, typer.Option(help="The address; other machines than this one need a password.")] = "127.0.0.1",
    user: Annotated[str | None, typer.Option(help="Who may look; the password is $TWOPLAYER_PASSWORD.")] = None,
) -> None:
    """Open a page in the browser: watch trainings while they run, and play with what they made."""
    from twoplayer.core.console import say
    from twoplayer.core.errors import UserError
    from twoplayer.explore.address import require_servable

    password = os.environ.get("TWOPLAYER_PASSWORD")
    if find_spec("gradio") is None:
        raise UserError("explore needs its extra: pip install 'twoplayer[explore]'")
    require_servable(runs, host, port, user, password)
    say("one moment")  # Gradio takes seconds to come
    from twoplayer.explore.app import serve

    serve(runs, host, port, user, password)
