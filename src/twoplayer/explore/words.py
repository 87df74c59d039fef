"""The page's words in English and Chinese; they lie in words.yaml, one line for each."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml

LANGUAGES = ("en", "zh")


@cache
def translations() -> dict[str, dict[str, str]]:
    """Words by language and key."""
    text = files("twoplayer.explore").joinpath("words.yaml").read_text(encoding="utf-8")
    both: dict[str, list[str]] = yaml.safe_load(text)
    return {language: {key: words[place] for key, words in both.items()} for place, language in enumerate(LANGUAGES)}


def language_of(accepted: str | None) -> str:
    """The language for a browser that sends this Accept-Language: the first that we have, else English."""
    for each in (accepted or "").lower().split(","):
        if each.strip()[:2] in LANGUAGES:
            return each.strip()[:2]
    return LANGUAGES[0]


def say(language: str, key: str, **values: object) -> str:
    """A line in a language, with its {values} put in."""
    return translations()[language][key].format(**values)
