"""onnxruntime-web, which runs an ONNX model in a browser: fetched with npm when it is needed first, and kept.

Source: https://onnxruntime.ai/docs/tutorials/web; MIT license. It is no part of twoplayer and is never committed.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from twoplayer.core.cache import cache_folder
from twoplayer.core.errors import UserError
from twoplayer.runs.files import write_atomically

PACKAGE = "onnxruntime-web@1.30.0"
CODE, PROGRAM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
SHA256 = {
    CODE: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    PROGRAM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
SECONDS = 300.0
"""How long npm may take."""


@dataclass(frozen=True)
class WebRuntime:
    """What a page needs to run a model.

    Attributes:
        code: a JavaScript module.
        program: WebAssembly.
    """

    code: bytes
    program: bytes


def web_runtime() -> WebRuntime:
    """The runtime from the cache, else from npm. Raises UserError where neither has it."""
    folder = cache_folder() / "npm" / PACKAGE
    if not all(is_right(folder / name) for name in SHA256):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in fetched().items():
            write_atomically(folder / name, content)
    return WebRuntime((folder / CODE).read_bytes(), (folder / PROGRAM).read_bytes())


def is_right(path: Path) -> bool:
    """Whether a file is what it was when this version was chosen."""
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[path.name]


def fetched() -> dict[str, bytes]:
    """The two files, from npm. Raises UserError."""
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            f"--format html needs {PACKAGE}, which npm fetches once: install Node.js, or take --format onnx"
        )
    with tempfile.TemporaryDirectory() as place:
        call = [npm, "pack", PACKAGE, "--silent", "--ignore-scripts", "--pack-destination", place]
        try:
            done = subprocess.run(call, capture_output=True, text=True, timeout=SECONDS, check=False, cwd=place)
        except subprocess.TimeoutExpired as error:
            raise UserError(f"npm did not fetch {PACKAGE} within {SECONDS:.0f} s; try again") from error
        packed = list(Path(place).glob("*.tgz"))
        if done.returncode or len(packed) != 1:
            words = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise UserError(f"npm cannot fetch {PACKAGE} ({words}); is the network there? Or take --format onnx")
        return unpacked(packed[0])


def unpacked(archive: Path) -> dict[str, bytes]:
    """The two files of npm's archive, if they are what they were when this version was chosen. Raises UserError."""
    found = {}
    with tarfile.open(archive) as members:
        for name, expected in SHA256.items():
            file = members.extractfile(f"package/dist/{name}")
            content = b"" if file is None else file.read()
            if hashlib.sha256(content).hexdigest() != expected:
                raise UserError(f"npm brought another {name} of {PACKAGE} than the known one; it is not used")
            found[name] = content
    return found
