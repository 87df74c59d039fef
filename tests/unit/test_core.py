"""Random streams, byte conversion, words near a word."""

from __future__ import annotations

import torch

from twoplayer.core.batch import to_float, to_uint8
from twoplayer.core.errors import did_you_mean
from twoplayer.core.rng import Stream


def test_bytes_survive_the_round_trip() -> None:
    every_byte = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    floats = to_float(every_byte)
    assert (floats.min(), floats.max()) == (-1.0, 1.0)
    assert torch.equal(to_uint8(floats), every_byte)
    assert to_uint8(torch.tensor([-7.0, 7.0])).tolist() == [0, 255]


def test_a_stream_depends_on_its_place_only() -> None:
    stream = Stream(3).child("train", 12)
    first = stream.child("latents").normal((5,))
    stream.child("other").uniform((100,))
    assert torch.equal(stream.child("latents").normal((5,)), first)
    places = [Stream(3), Stream(4), Stream(3).child("a"), Stream(3).child("a", 1), Stream(3).child("a", "1")]
    assert len({place.derived_seed() for place in places}) == len(places)


def test_stream_distributions() -> None:
    uniform = Stream(0).uniform((100_000,), -1.0, 1.0)
    assert -1 <= uniform.min() < -0.999
    assert 0.999 < uniform.max() < 1
    assert abs(uniform.mean()) < 0.01
    normal = Stream(0).normal((100_000,))
    assert abs(normal.mean()) < 0.01
    assert abs(normal.std() - 1) < 0.01
    assert sorted(Stream(0).permutation(50).tolist()) == list(range(50))


def test_did_you_mean() -> None:
    assert did_you_mean("n_filter", ["n_filters", "n_blocks"]) == "; did you mean 'n_filters'?"
    assert did_you_mean("zzz", ["n_filters"]) == ""
