"""Who may look at the page of `twoplayer explore`, before anything of it is served."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from twoplayer.core.errors import UserError
from twoplayer.explore.address import is_own, require_servable
from twoplayer.explore.checked import bounded, whole
from twoplayer.explore.guard import Guard


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "::1"])
def test_own_addresses(host: str) -> None:
    assert is_own(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::", "example.org", "", "127.0.0.1.example.org"])
def test_addresses_that_others_reach(host: str, tmp_path: Path) -> None:
    assert not is_own(host)
    for user, password in ((None, None), ("me", None), (None, "secret"), ("", "")):
        with pytest.raises(UserError, match="open to other machines"):
            require_servable(tmp_path, host, 7860, user, password)


@pytest.mark.parametrize(
    ("host", "origin", "why"),
    [
        ("127.0.0.1:7860", None, ""),
        ("localhost:7860", "http://localhost:7860", ""),
        ("[::1]:7860", None, ""),
        ("example.org", None, "only for this machine"),
        ("127.0.0.1.example.org:7860", None, "only for this machine"),
        ("", None, "only for this machine"),
        ("[", None, "no address"),
        ("127.0.0.1:7860", "http://example.org", "other sites"),
        ("127.0.0.1:7860", "http://127.0.0.1:9999", "other sites"),
        ("127.0.0.1:7860", "null", "other sites"),
    ],
)
def test_what_is_let_through(host: str, origin: str | None, why: str) -> None:
    found = Guard(None, own=True).refusal(host, origin)
    assert why in found
    assert bool(found) == bool(why)


def test_a_page_with_a_password_answers_under_any_name_but_to_itself_alone() -> None:
    guard = Guard(None, own=False)
    assert not guard.refusal("gpu.example.org:7860", "http://gpu.example.org:7860")
    assert guard.refusal("gpu.example.org:7860", "http://example.org")


def test_what_cannot_be_served_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        require_servable(tmp_path / "none", "127.0.0.1", 7860, None, None)
    with pytest.raises(UserError, match="needs a password"):
        require_servable(tmp_path, "127.0.0.1", 7860, "me", None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="is taken"):
            require_servable(tmp_path, "127.0.0.1", taken.getsockname()[1], None, None)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "3", True, [3], 2.5, -1, 10**9, {}])
def test_numbers_of_visitors_are_checked(value: object) -> None:
    with pytest.raises(UserError, match="pictures"):
        whole(value, 1, 100, "pictures")


def test_good_numbers_pass() -> None:
    assert whole(3.0, 1, 100, "pictures") == 3
    assert bounded(0.5, 0.0, 1.0, "psi") == 0.5
