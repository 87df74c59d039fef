"""`twoplayer`: the verbs, and how each ending becomes a line and an exit code."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from contextlib import suppress
from types import FrameType

import typer

from twoplayer.cli import bench, compare, data, evaluate, explore, export, features, latents, recipes, sample, train
from twoplayer.core.errors import Diverged, TrainingStopped, UserError
from twoplayer.core.process import set_up_process
from twoplayer.core.stop import NOTHING_SAVED, SIGNALS

app = typer.Typer(
    help="Train, judge, compare and use generative adversarial networks on images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(train.train)
app.command()(sample.sample)
app.command()(evaluate.evaluate)
app.command()(compare.compare)
app.command()(explore.explore)
app.command()(export.export)
app.command()(recipes.recipes)
app.command()(data.data)
app.add_typer(latents.app, name="latents")
app.add_typer(features.app, name="features")
app.add_typer(bench.app, name="bench")

MENDABLE = {
    errno.ENOSPC: "no space left; free some or choose another --out",
    errno.EDQUOT: "the disk quota is used up; free some or choose another --out",
    errno.EACCES: "no permission; choose a place you may write to",
    errno.EPERM: "no permission; choose a place you may write to",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EISDIR: "this is a folder; a file was expected",
    errno.EEXIST: "a file is in the way",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOENT: "no such file or folder",
}


def main() -> None:
    """Run the command line and exit with 0, 1, 2, 3 or 130."""
    for number in SIGNALS:
        signal.signal(number, leave)
    set_up_process()
    logging.basicConfig(format="twoplayer: %(message)s", stream=sys.stderr, level=logging.WARNING)
    logging.getLogger("twoplayer").setLevel(logging.INFO)
    sys.exit(run())


def leave(number: int, frame: FrameType | None) -> None:
    """End the process at once, where there is nothing to save: files are written whole or not at all.

    What is raised instead may be lost, or worse, in the middle of an import or of a library's own code.
    """
    with suppress(OSError):
        os.write(2, f"twoplayer: {NOTHING_SAVED}\n".encode())
    os._exit(TrainingStopped.exit_code)


def run(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code. Errors that a user can mend become one line on stderr.

    Typer itself makes exit code 130 of a KeyboardInterrupt.
    """
    try:
        return app(arguments, standalone_mode=False) or 0
    except (UserError, Diverged) as error:
        return _say(str(error), error.exit_code)
    except SystemExit as ended:  # what Typer makes of a closed pipe
        if isinstance(ended.__context__, BrokenPipeError):
            return 0
        raise
    except RuntimeError as error:
        if "home directory" not in str(error):
            raise
        return _say(f"a path begins with ~ and a name that is no user here: {error}", UserError.exit_code)
    except OSError as error:
        if error.errno not in MENDABLE:
            raise
        return _say(f"{error.filename or 'the disk'}: {MENDABLE[error.errno]}", UserError.exit_code)
    except Exception as error:
        if not hasattr(error, "format_message"):  # not a usage error of the argument parser: a defect
            raise
        message = error.format_message()
        return _say(" ".join(message.split()) or "see --help", UserError.exit_code) if message else 0


def _say(message: str, code: int) -> int:
    with suppress(OSError):  # whoever read stderr may be gone; the exit code still tells
        print(f"twoplayer: {' '.join(message.split())}", file=sys.stderr)
    return code
