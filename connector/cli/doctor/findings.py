"""What a check of the doctor found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report. `cause`: what is so; `remedy`: what would make it right, "" where it is."""

    check: str
    verdict: Verdict
    cause: str = ""
    remedy: str = ""
