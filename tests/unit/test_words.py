"""The words of the page that `twoplayer explore` serves."""

from __future__ import annotations

import re
import string
from collections import Counter
from pathlib import Path

import pytest

import twoplayer
from twoplayer.explore.words import LANGUAGES, language_of, say, translations

ROOM = Path(twoplayer.__file__).parent / "explore"


def test_every_key_stands_once() -> None:
    keys = re.findall(r"^([\w-]+):", (ROOM / "words.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    assert [key for key, count in Counter(keys).items() if count > 1] == []
    assert set(keys) == set(translations()["en"])


@pytest.mark.parametrize("key", translations()["en"])
def test_both_languages_say_the_same_things(key: str) -> None:
    texts = [translations()[each][key] for each in LANGUAGES]
    names = [{name for _, name, _, _ in string.Formatter().parse(text)} - {None} for text in texts]
    assert names[0] == names[1]
    assert all(text.strip() for text in texts)


def test_no_word_is_left_over() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in ROOM.glob("*.py"))
    quoted = set(re.findall(r"[\"']([\w-]+)[\"']", code)) | {path.stem for path in ROOM.glob("*.py")}
    patterns = [re.sub(r"\\{.*?\\}", ".+", re.escape(each)) for each in re.findall(r'f"([\w{}.-]+)"', code)]
    left = [
        key for key in translations()["en"] if key not in quoted and not any(re.fullmatch(p, key) for p in patterns)
    ]
    assert left == []


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("zh-TW", "zh"),
        ("fr-FR,en;q=0.5", "en"),
        ("de", "en"),
        (None, "en"),
        ("", "en"),
    ],
)
def test_the_language_is_the_browsers(accepted: str | None, language: str) -> None:
    assert language_of(accepted) == language


def test_values_are_put_in() -> None:
    assert say("en", "at-step", step="1,000", steps="2,000") == "step 1,000 of 2,000"
    assert "1,000" in say("zh", "at-step", step="1,000", steps="2,000")
