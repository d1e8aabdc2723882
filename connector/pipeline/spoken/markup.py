"""Takes out of a text what is written to be seen: Markdown, HTML, emoji. What remains are its words."""

from __future__ import annotations

import html
import re

_TAGS = (
    "a abbr audio b blockquote body br button center code dd del details div dl dt em figure font footer form h[1-6] "
    "head header hr html i iframe img input ins kbd label li link main mark meta nav ol option p pre q s samp script "
    "section select small span strike strong style sub summary sup svg table tbody td textarea tfoot th thead time "
    "title tr u ul var video speak voice prosody break emphasis say-as phoneme"
)
_HTML = re.compile(
    rf"<!--.*?(?:-->|$)|<(?:script|style)\b.*?(?:</(?:script|style)>|$)|</?(?:{'|'.join(_TAGS.split())})(?:\s[^<>]*)?/?>",
    re.IGNORECASE | re.DOTALL,
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,31});")
_FENCED = re.compile(r"(?:```|~~~).*?(?:```|~~~|$)", re.DOTALL)
_AUTOLINK = re.compile(r"<((?:https?://|mailto:|tel:)?[^\s<>]*[.@:][^\s<>]*)>")
_LINK = re.compile(r"!?\[([^\[\]]*)\](?:\([^()]*(?:\([^()]*\)[^()]*)*\)|\[[^\[\]]*\])")
_CITATION = re.compile(r"\s?\[\^?[\d, ]{1,12}\](?::(?=\s|$))?|\s?【[^】]*】")
_TASK = re.compile(r"\[[ xX]?\](?=\s)")
_RULE = re.compile(r"(?m)^[ \t]*(?:[-*_=][ \t]*){3,}$")
_TABLE_RULE = re.compile(r"(?<!\S)\|?\s*:?-{2,}:?\s*(?:\|\s*:?-{2,}:?\s*)+\|?(?!\S)|(?<!\S)\|\s*:?-{2,}:?\s*\|(?!\S)")
_CELL = re.compile(r"(?<=[.,:;!?])[\s|]*\|\s*|(?P<between>[\s|]*\|\s*)")
_QUOTED = re.compile(r"(?m)^[ \t]*(?:>[ \t]?)+(?=\D|$)")
_BULLET = re.compile(r"(?m)^[ \t]*(?:[-*+•‣◦▪–—][ \t]+)+")
_HEADING = re.compile(r"(?<!\S)#{1,6}(?:\s+|$)")
_STRUCK = re.compile(r"~~")
_PRODUCT = re.compile(r"(?<=\d)\s?\*\s?(?=\d)")
_EMPHASIS = re.compile(r"\*+|`+|(?<![^\W_])_+|_+(?![^\W_])")
_ESCAPE = re.compile(r"\\+(?=[^\w\s])")
_EMOTICON = re.compile(r"(?<!\S)[:;=][-']?[)(DPpOo](?=[\s.,!?]|$)")
_PICTOGRAPHS = re.compile(
    "["
    "\u00ad\u00a9\u00ae\u200b\u200e\u200f\u202a-\u202e\u203c\u2049\u2060-\u2064\u20e3\ufe00-\ufe0f\ufeff\ufffc\ufffd"
    "\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u2400-\u27bf\u2934\u2935\u2b00-\u2bff\u3030\u303d\u3297\u3299"
    "\ue000-\uf8ff\U0001f000-\U0001faff\U0001fb00-\U0001fbff\U000e0000-\U000e007f\U000f0000-\U0010ffff"
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"
    "]+"
)
_JOINERS = re.compile("(?<![^\\W\\d_])[\u200c\u200d]+|[\u200c\u200d]+(?![^\\W\\d_])")
_LEFT_BEHIND = re.compile(r"\(\s*\)|\s+(?=[.!?,](?:\s|$))")
_MARKS = re.compile(r"[][*`{}<>|\\~^]|_|[#@=+](?!\w)")

_MARKUP = re.compile(r"[][*_`#<>|\\~&{}^=+•‣◦▪]|^\s*[-–—+]|\n|[:;][-')(DPp]|[^\x20-\x7eÀ-ÿ–—‘’“”…]")
"""Without any of this, a text is its words already."""


def plain(text: str) -> str:
    """`text` without its markup and pictographs; links keep their text, tables their cells, fenced code nothing."""
    if not _MARKUP.search(text):
        return text
    text = _FENCED.sub(" ", text)
    text = _HTML.sub(" ", _ENTITY.sub(lambda match: html.unescape(match[0]), text))
    text = _AUTOLINK.sub(r"\1", text)
    text = _CITATION.sub("", _TASK.sub("", _LINK.sub(r"\1", text)))
    text = _BULLET.sub("", _RULE.sub("", _QUOTED.sub("", text)))
    text = _cells(text) if "|" in text else text
    text = _STRUCK.sub("", _HEADING.sub("", text))
    text = _ESCAPE.sub("", _EMPHASIS.sub("", _PRODUCT.sub("×", text)))
    without = _EMOTICON.sub("", _JOINERS.sub("", _PICTOGRAPHS.sub(" ", text)))
    return text if without == text else _LEFT_BEHIND.sub("", without)


def bare(text: str) -> str:
    """`text` without the marks that no language says."""
    return _MARKS.sub(" ", text)


def _cells(text: str) -> str:
    """The rows of a table as lists: *Monday, nine to five*."""
    rows = (_TABLE_RULE.sub(" ", row).strip(" \t|") for row in text.splitlines())
    return "\n".join(_CELL.sub(lambda match: ", " if match["between"] else " ", row) for row in rows)
