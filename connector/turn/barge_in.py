"""How much speech it takes to begin a turn, and so to interrupt the agent."""

from __future__ import annotations

import math

from connector.config.model import TurnSettings
from connector.turn.state import Turn


def speech_needed(turn: Turn, settings: TurnSettings) -> float:
    """Seconds of speech that begin the caller's turn while `turn` holds; infinite where none does.

    Over the agent's voice it takes more than in silence: what a microphone hears then may be the
    agent itself, and a voice that stops at every cough is worse than one that stops 70 ms later.
    """
    if turn is not Turn.SPEAKING:
        return settings.start_seconds
    return settings.barge_in_seconds if settings.barge_in else math.inf
