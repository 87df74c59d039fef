"""Nothing that is read is ever run: no pickles, no code from files, no shell."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path

import numpy as np
import pytest

import twoplayer as tp
from twoplayer.core.errors import UserError
from twoplayer.data.form import Form
from twoplayer.data.source import open_source

SOURCES = sorted((Path(tp.__file__).parent).rglob("*.py"))
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec", "__import__", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "torch.load"}


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCES[0].parent)))
def test_no_code_runs_what_it_reads(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not {name.name.split(".")[0] for name in node.names} & FORBIDDEN_MODULES
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in FORBIDDEN_MODULES
    for name, call in calls(tree):
        assert name not in FORBIDDEN_CALLS, f"{path}: {name}"
        for word in call.keywords:
            value = isinstance(word.value, ast.Constant) and word.value.value
            assert not (word.arg in ("allow_pickle", "shell") and value), f"{path}: {name}"


class Payload:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["images.npz", "images.npy", "images.parquet", "images.zip", "images.tar"])
def test_a_pickle_that_is_called_data_never_runs(name: str, tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / name
    path.write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises(UserError):
        open_source(str(path)).load("train", Form())
    objects = np.empty(1, object)
    objects[0] = Payload(mark)
    if name.endswith(".npy"):
        np.save(path, objects, allow_pickle=True)
    if name.endswith(".npz"):
        np.savez(path, images=objects)
    with pytest.raises(UserError):
        open_source(str(path)).load("train", Form())
    assert not mark.exists()


def test_a_pickle_that_is_called_a_recipe_or_a_run_never_runs(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f'name: !!python/object/apply:pathlib.Path.touch ["{mark}"]\n')
    with pytest.raises(UserError):
        tp.train(str(recipe), out=tmp_path / "run")
    recipe.write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises(UserError):
        tp.train(str(recipe), out=tmp_path / "run")
    assert not mark.exists()


def test_a_pickle_that_is_called_a_checkpoint_never_runs(tmp_path: Path, tiny_run: tp.Run) -> None:
    import shutil

    mark = tmp_path / "ran"
    shutil.copytree(tiny_run.path, tmp_path / "run")
    for path in (tmp_path / "run").rglob("*.safetensors"):
        path.write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises(UserError):
        tp.load(tmp_path / "run").sample(2)
    with pytest.raises(UserError):
        tp.train(None, "steps=8", out=tmp_path / "run", resume=True, device="cpu", quiet=True)
    assert not mark.exists()
