"""How much speech it takes to begin a turn, and so to interrupt the agent or to make it pause."""

from __future__ import annotations

import math

from connector.config.model import TurnSettings
from connector.turn.state import Turn

PAUSE_SECONDS = 0.06
"""More speech than this over the agent's voice makes it pause until it is clear whether the caller interrupts."""


def speech_needed(turn: Turn, settings: TurnSettings) -> float:
    """Seconds of speech that begin the caller's turn while `turn` holds; infinite where none does.

    Over the agent's voice it takes more than in silence: what a microphone hears then may be the
    agent itself, and a voice that stops at every cough is worse than one that stops 70 ms later.
    """
    if turn is not Turn.SPEAKING:
        return settings.start_seconds
    return settings.barge_in_seconds if settings.barge_in else math.inf


def gives_way(turn: Turn, settings: TurnSettings, voiced: float, *, giving_way: bool) -> bool:
    """Whether the agent is silent for `voiced` seconds of speech that may become the caller's turn.

    A caller who interrupts hears the agent stop at once; after a cough it goes on where it stopped.
    An answer does not begin into what may be the caller going on. `giving_way`: it is silent already.
    """
    if turn not in (Turn.THINKING, Turn.SPEAKING) or (turn is Turn.SPEAKING and not settings.barge_in):
        return False
    return voiced > (PAUSE_SECONDS if turn is Turn.SPEAKING and not giving_way else 0.0)
