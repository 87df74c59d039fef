"""Whether this is a Jupyter notebook, and showing things in it. IPython is used where it runs already, never loaded."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Protocol

PNG = "image/png"
HTML = "text/html"
TEXT = "text/plain"


class Shown(Protocol):
    """A place in a notebook whose content can be replaced."""

    def update(self, bundle: Mapping[str, Any], *, raw: bool) -> None:
        """Show this instead."""


def in_notebook() -> bool:
    """Whether the code runs in a kernel, whose output a notebook shows; an IPython in a terminal has none."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return getattr(shell, "kernel", None) is not None


def show(bundle: Mapping[str, Any]) -> Shown:
    """Show something, by MIME type, below the present cell. Only in a notebook."""
    from IPython.display import display

    handle: Shown = display(dict(bundle), raw=True, display_id=True)  # type: ignore[no-untyped-call]
    return handle
