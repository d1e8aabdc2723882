"""Language tags (BCP 47, RFC 5646): `de`, `pt-BR`, `zh-Hans-CN`."""

from __future__ import annotations

import re

_TAG = re.compile(
    r"(?P<language>[a-z]{2,3}) (?:-(?P<script>[a-z]{4}))? (?:-(?P<region>[a-z]{2}|[0-9]{3}))?"
    r"(?P<variants>(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*)",
    re.IGNORECASE | re.VERBOSE | re.ASCII,
)
"""`langtag` of RFC 5646 section 2.1 as far as it tells how people speak."""


def language_tag(text: str) -> str:
    """`text` in the usual case (RFC 5646 section 2.1.1): `DE-ch` as `de-CH`. Raises ValueError where it is no tag."""
    match = _TAG.fullmatch(text.replace("_", "-"))
    if match is None:
        raise ValueError("should be a BCP 47 language tag, such as en, de-CH or zh-Hans-CN")
    script, region = match["script"] or "", match["region"] or ""
    parts = (match["language"].lower(), script.title(), region.upper())
    return "-".join(filter(None, parts)) + match["variants"].lower()


def primary(tag: str) -> str:
    """The language of a tag without script and region: `de` of `de-CH`, in whatever case and spelling."""
    return re.split("[-_]", tag, maxsplit=1)[0].lower()
