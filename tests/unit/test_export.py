"""Generators that leave the house draw what they drew in it."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import twoplayer as tp
import twoplayer.recipes.schema
from tests.contract.test_catalogue import each, latent_dim
from twoplayer.cli.main import run
from twoplayer.core.errors import UserError
from twoplayer.core.protocols import GeneratorNetwork
from twoplayer.export import runtime
from twoplayer.export.format import formats
from twoplayer.export.onnx import inputs_of, onnx_model
from twoplayer.export.page import facts, page
from twoplayer.export.runtime import WebRuntime
from twoplayer.latents.normal import NormalLatents
from twoplayer.latents.uniform import UniformLatents
from twoplayer.networks.lapgan import LapganGenerator
from twoplayer.networks.mlp import MlpGenerator
from twoplayer.networks.pyramid import PyramidGenerator, PyramidLevel
from twoplayer.runs.cards import generator_card
from twoplayer.runs.snapshot import SnapshotInfo

SHAPE, CLASSES = (1, 8, 8), tuple("abc")


def info_of(config: GeneratorNetwork, shape: tuple[int, int, int] = SHAPE) -> SnapshotInfo:
    return SnapshotInfo(
        recipe="test",
        step=12,
        kimg=3.4,
        image_shape=shape,
        class_names=CLASSES,
        data_source="letters",
        data_sha256="0" * 64,
        latents=NormalLatents(dim=latent_dim(config, shape)),
        generator=config,
    )


def built(info: SnapshotInfo) -> nn.Module:
    torch.manual_seed(0)
    return info.build().eval()


CONDITIONAL_PYRAMID = PyramidGenerator(
    levels=(
        PyramidLevel(latent_dim=4, generator=MlpGenerator(conditional=True)),
        PyramidLevel(generator=LapganGenerator(conditional=True)),
    )
)


EVERY = [pytest.param(piece(), marks=pytest.mark.slow) for piece in each(GeneratorNetwork) if piece is not MlpGenerator]


@pytest.mark.parametrize(
    "config",
    [MlpGenerator(), pytest.param(CONDITIONAL_PYRAMID, marks=pytest.mark.slow), *EVERY],
    ids=lambda config: f"{config.name} {config.takes}",
)
def test_onnx_draws_what_pytorch_draws(config: GeneratorNetwork) -> None:
    """Of every generator in the catalogue, in several batch sizes; the file names no place on disk."""
    info = info_of(config)
    model, off = onnx_model(built(info), info)
    assert off <= 1e-5
    assert b"site-packages" not in model
    assert str(Path(tp.__file__).parent).encode() not in model


def test_onnx_says_what_it_is_and_takes_any_batch() -> None:
    import onnxruntime

    info = info_of(MlpGenerator(conditional=True))
    session = onnxruntime.InferenceSession(onnx_model(built(info), info)[0], providers=["CPUExecutionProvider"])
    assert {each.name: each.type for each in session.get_inputs()} == {
        "latents": "tensor(float)",
        "labels": "tensor(int64)",
    }
    said = session.get_modelmeta().custom_metadata_map
    assert (said["recipe"], said["class_names"], json.loads(said["latents"])["dim"]) == ("test", "a\nb\nc", 6)
    for n in (1, 5):
        given = {name: value.numpy() for name, value in inputs_of(info, n).items()}
        assert session.run(None, given)[0].shape == (n, *SHAPE)


@pytest.mark.slow
def test_an_export_that_draws_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from twoplayer.export import onnx

    info = info_of(MlpGenerator())
    monkeypatch.setattr(onnx, "difference", lambda *_: 2e-4)
    with pytest.raises(UserError, match=r"off by 2\.0e-04"):
        onnx_model(built(info), info)
    monkeypatch.setattr(onnx, "difference", lambda *_: float("nan"))
    with pytest.raises(UserError, match="off by nan"):
        onnx_model(built(info), info)


def test_an_exported_folder_draws_the_pictures_of_its_run(tiny_run: tp.Run, tmp_path: Path) -> None:
    out = tmp_path / "exported"
    assert (
        run(["export", str(tiny_run.path), "--format", "safetensors", "--out", str(out), "--license", "cc0-1.0"]) == 0
    )
    shutil.move(out, tmp_path / "elsewhere")
    found = tp.load_generator(tmp_path / "elsewhere")
    assert torch.equal(found.sample(70, seed=3), tiny_run.sample(70, seed=3))
    assert torch.equal(found.walk([1, 2], 4), tiny_run.walk([1, 2], 4))
    with pytest.raises(UserError, match="a generator alone"):
        found.sample(2, best_of=2)
    assert run(["sample", str(tmp_path / "elsewhere"), "--n", "4", "--grid", str(tmp_path / "grid.png")]) == 0
    card = (tmp_path / "elsewhere" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: twoplayer\nlicense: cc0-1.0\n")
    assert str(tiny_run.path) not in card


def test_the_card_has_figures_with_their_provenance() -> None:
    figure = {
        "value": 12.3456,
        "spread": 0.5,
        "floor": 1.25,
        "better": "lower",
        "n_fake": 2000,
        "n_real": 1000,
        "data": "letters",
        "split": "test",
        "seeds": 3,
        "step": 12,
        "extractor": {"id": "letters-cnn"},
    }
    card = generator_card(info_of(MlpGenerator()), {"fid_letters-cnn": figure, "doctor": {}})
    assert "12.35 +- 0.5 | 1.25 | lower | step 12, 2,000 fakes, 1,000 real of letters test, 3 seeds, features" in card
    assert "not chosen" in card


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "onx"], "--format onx; did you mean 'onnx'? (allowed: html, onnx, safetensors)"),
        (["--format", "onnx", "--out", "a.bin"], "has to end in .onnx"),
        (["--format", "onnx", "--out", "there.onnx"], "there.onnx is there already"),
        (["--format", "onnx", "--out", "no/a.onnx"], "no such folder"),
        (["--format", "onnx", "--push", "me/it"], "say --format safetensors"),
    ],
)
def test_what_a_user_can_mend(
    words: list[str],
    said: str,
    tiny_run: tp.Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.onnx").touch()
    assert run(["export", str(tiny_run.path), *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert [each.name for each in tmp_path.iterdir()] == ["there.onnx"]


def test_every_format_says_how_its_file_ends() -> None:
    assert {name: kind.ending for name, kind in formats().items()} == {
        "html": ".html",
        "onnx": ".onnx",
        "safetensors": "",
    }


def test_the_runtime_is_what_it_was_or_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TWOPLAYER_CACHE", str(tmp_path))
    monkeypatch.setattr(runtime.shutil, "which", lambda _: None)
    with pytest.raises(UserError, match=r"npm fetches once: install Node\.js"):
        runtime.web_runtime()
    npm = tmp_path / "npm.sh"
    npm.write_text("#!/bin/sh\necho 'npm error: no such host' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(runtime.shutil, "which", lambda _: str(npm))
    with pytest.raises(UserError, match="no such host"):
        runtime.web_runtime()
    import tarfile

    (tmp_path / "package" / "dist").mkdir(parents=True)
    for name in runtime.SHA256:
        (tmp_path / "package" / "dist" / name).write_bytes(b"other")
    with tarfile.open(tmp_path / "other.tgz", "w:gz") as archive:
        archive.add(tmp_path / "package", "package")
    npm.write_text(f"#!/bin/sh\ncp '{tmp_path}/other.tgz' \"$6\"\n")
    with pytest.raises(UserError, match=r"another .* than the known one"):
        runtime.web_runtime()


def test_the_page_has_everything_in_it() -> None:
    info = info_of(MlpGenerator(conditional=True))
    text = page(b"model", info, WebRuntime(b"code", b"program"))
    assert "@" not in {
        text[text.index(f'id="{name}">') + len(f'id="{name}">')] for name in ("model", "code", "program")
    }
    assert "http://" not in text
    assert "https://" not in text
    assert facts(info)["classes"] == CLASSES
    assert facts(info.model_copy(update={"latents": UniformLatents(dim=6)}))["bounds"] == [-1.0, 1.0]
    hostile = page(b"", info.model_copy(update={"class_names": ("</script><b>",)}), WebRuntime(b"", b""))
    assert "</script><b>" not in hostile


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload of small files asks for."""

    asked: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        type(self).asked.append((self.path, body))
        answer: dict[str, object] = {}
        if self.path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            answer = {
                "files": [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in files]
            }
        elif self.path.endswith("/repos/create"):
            answer = {"url": "/me/it"}
        elif "/commit/main" in self.path:
            answer = {"commitUrl": "/me/it/commit/abc", "commitOid": "abc", "success": True}
        self.answer(answer)

    def do_GET(self) -> None:
        self.answer({"id": "me/it", "sha": "abc", "siblings": []})

    def answer(self, content: dict[str, object]) -> None:
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, bytes]]]:
    """A hub on this machine; what it was asked."""
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    from twoplayer.export import push

    monkeypatch.setattr(push, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield Hub.asked
    server.shutdown()
    server.server_close()


def test_a_folder_is_pushed_to_the_hub(
    hub: list[tuple[str, bytes]], tiny_run: tp.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "generator")
    assert run(["export", str(tiny_run.path), "--format", "safetensors", "--out", out, "--push", "me/it"]) == 0
    assert "me/it" in capsys.readouterr().out
    created = next(body for path, body in hub if path.endswith("/repos/create"))
    assert b'"visibility":"private"' in created or b'"private": true' in created
    committed = next(body for path, body in hub if "/commit/main" in path)
    sent = {json.loads(line)["value"]["path"] for line in committed.splitlines() if b'"file"' in line}
    assert sent == {"README.md", "config.json", "generator.safetensors"}


def test_a_hub_that_is_not_there(
    tiny_run: tp.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from twoplayer.export import push

    monkeypatch.setattr(push, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    out = tmp_path / "generator"
    words = ["--format", "safetensors", "--out", str(out), "--push", "me/it"]
    assert run(["export", str(tiny_run.path), *words]) == 2
    assert "was written, but me/it cannot be put on the hub" in capsys.readouterr().err
    assert np.array_equal(tp.load_generator(out).sample(3), tiny_run.sample(3))
