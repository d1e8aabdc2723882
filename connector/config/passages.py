"""`<no-interrupt>...</no-interrupt>` in what is said: passages that the caller may not interrupt by speaking."""

from __future__ import annotations

import re

OPENING, CLOSING = "<no-interrupt>", "</no-interrupt>"

TAG = re.compile(r"<(?P<closing>/?)no-interrupt>", re.IGNORECASE)


def paired(text: str) -> str:
    """`text`, in which every opening tag has its closing one. Raises ValueError where one has not."""
    inside = False
    for match in TAG.finditer(text):
        if inside != bool(match["closing"]):
            stray = "opened within another" if inside else "closed before it is opened"
            raise ValueError(f"has a passage that is {stray} (write {OPENING}words{CLOSING})")
        inside = not inside
    if inside:
        raise ValueError(f"has a passage that is never closed (write {OPENING}words{CLOSING})")
    return text
