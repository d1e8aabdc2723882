"""DTMF keys gathered into what the caller meant to enter."""

from __future__ import annotations

KEYPAD_PAUSE = 2.0
"""Seconds of audio without a key that complete an entry."""

KEYPAD_END = "#"
"""The key that completes an entry at once; alone it is the entry."""

KEYPAD_LIMIT = 64
"""An entry that reaches this many keys is complete."""


class Keypad:
    """One caller's keypad."""

    def __init__(self) -> None:
        self._keys = ""
        self._quiet = 0.0

    @property
    def pending(self) -> bool:
        """True while keys wait for their entry to be complete."""
        return bool(self._keys)

    def press(self, key: str) -> str | None:
        """Takes in one key (0-9 * # A-D); returns the entry where this key completes it."""
        self._quiet = 0.0
        if key == KEYPAD_END:
            return self.take() or KEYPAD_END
        self._keys += key
        return self.take() if len(self._keys) >= KEYPAD_LIMIT else None

    def wait(self, seconds: float) -> str | None:
        """Lets `seconds` of audio pass; returns the entry where the pause completes it."""
        self._quiet += seconds
        return self.take() or None if self._quiet >= KEYPAD_PAUSE else None

    def take(self) -> str:
        """Returns what was entered so far ("" for nothing) and begins anew."""
        keys, self._keys, self._quiet = self._keys, "", 0.0
        return keys
