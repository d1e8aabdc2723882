"""Words of each language that tell whether a caller's turn is over: tables, without rules."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from connector.turn.words.english import ENGLISH
from connector.turn.words.french import FRENCH
from connector.turn.words.german import GERMAN
from connector.turn.words.spanish import SPANISH
from connector.turn.words.table import Words, words

TABLES: Mapping[str, Words] = MappingProxyType({"en": ENGLISH, "de": GERMAN, "fr": FRENCH, "es": SPANISH})
"""The table of each language (ISO 639-1)."""

UNKNOWN = Words(
    fillers=words("um uh uhm erm hmm hm mm äh ähm euh eh em öh ehm"),
    backchannels=frozenset(
        ("mhm", "mm hmm", "mmhmm", "mm hm", "mmhm", "m hm", "uh huh", "uhhuh", "aha", "ah", "oh", "ok", "okay")
    ),
)
"""What holds in any language."""


def table_of(language: str) -> Words:
    """The table of a language tag (BCP 47: "en", "en-GB"); `UNKNOWN` for one that has none."""
    return TABLES.get(language.replace("_", "-").split("-")[0].lower(), UNKNOWN)
