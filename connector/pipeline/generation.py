"""Generations: the number of a reply, and the scope in which its output counts."""

from __future__ import annotations


class Generation:
    """One reply's cancel scope. `number` is the one that the port knows it by."""

    __slots__ = ("_live", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self._live = True

    @property
    def live(self) -> bool:
        """False once the reply was cancelled: whatever still comes of it is stale."""
        return self._live

    def cancel(self) -> None:
        """Makes everything that still comes of this reply stale. Idempotent."""
        self._live = False

    def __str__(self) -> str:
        return f"generation {self.number}{'' if self._live else ' (cancelled)'}"


class Generations:
    """Numbers the replies of one conversation, from 1 on; at most one of them is live."""

    def __init__(self) -> None:
        self._latest = Generation(0)
        self._latest.cancel()

    def begin(self) -> Generation:
        """Starts the next generation; the one before it, if still live, is cancelled."""
        self._latest.cancel()
        self._latest = Generation(self._latest.number + 1)
        return self._latest
