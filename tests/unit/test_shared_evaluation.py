"""Several processes draw and extract for one evaluation: the figures are those of one process, to the last digit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import twoplayer as tp
from tests.conftest import untrained
from tests.ranks_together import free_port, together
from twoplayer.core.observed import Observed
from twoplayer.core.ranks import ALONE, Ranks
from twoplayer.core.rng import Stream
from twoplayer.evaluation.shared import Shared
from twoplayer.extractors import cnn
from twoplayer.judging import Judge
from twoplayer.recipes.load import load_recipe, parse_overrides

N, SEEDS = 250, 1


@pytest.mark.parametrize(("n", "unit"), [(1000, 64), (1, 64), (0, 64), (64, 64), (65, 64), (7, 1), (513, 512)])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shares_are_whole_units_in_order(n: int, unit: int, count: int) -> None:
    shares = [Ranks(rank, count).share(n, unit) for rank in range(count)]
    assert shares[0].start == 0
    assert shares[-1].stop == n
    assert all(one.stop == other.start for one, other in pairwise(shares))
    assert all(share.start % unit == 0 or share.start == n for share in shares)
    units = [-(-(share.stop - share.start) // unit) for share in shares]
    assert max(units) - min(units) <= 1


def test_rank_0_alone_hears_what_all_say(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> list[Tensor | None]:
        return ranks.gathered(None if ranks.index == 1 else torch.arange(ranks.index + 1))

    first, *others = together(3, tmp_path / "ranks", work)
    assert [None if each is None else each.tolist() for each in first] == [[0], None, [0, 1, 2]]
    assert others == [[], []]
    assert ALONE.gathered("only") == ["only"]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extractor looks at so few images at a time that each of four ranks has some."""
    monkeypatch.setattr(cnn, "CHUNK", 64)
    monkeypatch.setattr(cnn.CnnNetwork, "chunk", 64)


@pytest.mark.usefixtures("small_chunks")
def test_what_all_see_together_is_what_one_sees(tmp_path: Path) -> None:
    recipe = load_recipe("digits-cgan")
    generator, info = untrained(recipe)
    judge = Judge(recipe)
    n = len(judge.train)

    def work(ranks: Ranks) -> list[Observed]:
        shared = Shared(ranks, judge.shared.images, judge.shared.given)
        if not ranks.writes:
            shared.follow()
            return []
        shared.use_extractor(cnn.RandomCnn().build((1, 8, 8), 0))
        shared.use_generator(generator, info)
        found = [shared.fakes(250, Stream(3)), shared.fakes(150, Stream(3), seen=False), shared.real("train")]
        shared.end(None)
        return found

    (alone,) = together(1, tmp_path / "1", work)
    assert [len(each) for each in alone] == [250, 150, n]
    assert alone[1].features is None
    assert torch.equal(alone[1].pixels, alone[0].pixels[:150])
    assert set(alone[0].labels.tolist()) == set(range(10))
    for count in (2, 4):
        whole, *others = together(count, tmp_path / str(count), work)
        assert others == [[]] * (count - 1)
        for one, other in zip(alone, whole, strict=True):
            for view in ("pixels", "features", "probabilities", "labels"):
                found, expected = getattr(other, view), getattr(one, view)
                assert found is expected is None or torch.equal(found, expected)


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(("name", "counts"), [("digits", [1, 4]), ("digits-cgan", [1, 2])])
def test_figures_do_not_depend_on_the_number_of_processes(
    name: str, counts: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(name, parse_overrides(["data.split=train"]))
    looks: list[int] = []
    observe = cnn.CnnNetwork.observe

    def counting(network: cnn.CnnNetwork, pixels: Tensor) -> Observed:
        looks.append(len(pixels))
        return observe(network, pixels)

    monkeypatch.setattr(cnn.CnnNetwork, "observe", counting)

    def work(ranks: Ranks) -> tuple[Any, int]:
        looks.clear()
        judge = Judge(recipe, N, SEEDS, "random-cnn", ranks=ranks)
        if not ranks.writes:
            return judge.shared.follow(), sum(looks)
        figures = judge.figures(*untrained(recipe), None)
        judge.shared.end(figures)
        return figures, sum(looks)

    found = {}
    for count in counts:
        monkeypatch.setenv("TWOPLAYER_CACHE", str(tmp_path / f"cache-{count}"))  # each looks at the real images too
        found[count] = together(count, tmp_path / f"ranks-{count}", work)
    ((alone, images),) = found[1]
    assert "fid_random-cnn" in alone
    assert "memorization_random-cnn" in alone
    several = found[counts[1]]
    assert [figures for figures, _ in several] == [alone] * len(several)
    seen = [each for _, each in several]
    assert sum(seen) == images
    assert max(seen) <= 1.5 * images / len(several)


@pytest.mark.slow
def test_two_processes_evaluate_a_run_and_one_writes(tiny_run: tp.Run, tmp_path: Path) -> None:
    words = ["-n", "150", "--seeds", "2", "--extractor", "random-cnn", "--every", "--json"]
    told = {}
    for count in (1, 2):
        run = shutil.copytree(tiny_run.path, tmp_path / str(count) / "run")
        common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        common["TWOPLAYER_CACHE"] = str(tmp_path / f"cache-{count}")
        ranks = [
            subprocess.Popen(
                [sys.executable, "-m", "twoplayer", "evaluate", str(run), *words],
                env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(count)
        ]
        said = [rank.communicate(timeout=120) for rank in ranks]
        assert [rank.returncode for rank in ranks] == [0] * count, said
        assert [out for out, _ in said[1:]] == [""] * (count - 1)
        told[count] = json.loads(said[0][0])
        assert json.loads((run / "evaluation.json").read_text()) == told[count]
    assert told[1] == told[2]
    assert [each["step"] for each in told[2]["series"]["sliced-wasserstein"]] == tiny_run.steps
