"""Text as it is said: what a language model writes becomes what people say on the telephone.

Markup and pictographs go; numbers, prices, dates, times, telephone numbers, codes and addresses become
words, so that every synthesiser says the same. What is words already is left as it is.
"""

from __future__ import annotations

import functools

from connector.pipeline.spoken.english import ENGLISH
from connector.pipeline.spoken.french import FRENCH
from connector.pipeline.spoken.german import GERMAN
from connector.pipeline.spoken.language import Language
from connector.pipeline.spoken.markup import bare, plain
from connector.pipeline.spoken.rules import Rule, apply, keys, rules
from connector.pipeline.spoken.spanish import SPANISH

LANGUAGES: dict[str, Language] = {"en": ENGLISH, "de": GERMAN, "fr": FRENCH, "es": SPANISH}
"""By ISO 639-1 code; of a text in any other language only the markup is taken out."""

_PASSES = 5
"""Markup inside markup may need another look; nearly every text is done after the first."""


def spoken(text: str, language: str = "en") -> str:
    """`text`, a sentence or so, as it is given to a synthesiser; empty where nothing can be said.

    `language`: a BCP 47 tag, of which only the first part counts. The function is idempotent. Its first
    call for a language compiles that language's rules: see `prepare`.
    """
    keypad, table = _rules(_primary(language))
    for _ in range(_PASSES):
        said = " ".join(bare(apply(table, plain(apply(keypad, text)))).split())
        if said == text:
            break
        text = said
    return text if any(map(str.isalnum, text)) else ""


def prepare(language: str) -> None:
    """Compiles the rules of `language`, which takes tens of milliseconds: at start, before any call."""
    _rules(_primary(language))


def _primary(language: str) -> str:
    return language.replace("_", "-").partition("-")[0].casefold()


@functools.cache
def _rules(code: str) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
    """What comes before the markup is taken out, and after."""
    language = LANGUAGES.get(code)
    return (keys(language), rules(language)) if language is not None else ((), ())
