"""Barge-in in two steps: what makes the agent pause, what makes it the caller's turn, and what lets the agent go on.

What a microphone hears while the agent speaks may be a cough, a listener's "uh-huh", the television, or the agent
itself. So the voice pauses at once, which is cheap to take back; only words, or much speech, take the turn.
"""

from __future__ import annotations

import math

from connector.config.model import TurnSettings
from connector.turn.state import Turn

LOUD_SECONDS = 0.04
"""So long it must be as loud as speech, and at least as probable as `POSSIBLE`, to make the agent pause ..."""
POSSIBLE = 0.15
VOICED_SECONDS = 0.06
"""... or so long the detector must hear speech, which outweighs the level."""
CERTAIN, CERTAIN_ON_ECHOING_LINE = 2, 5
"""So many frames in a row must be found not to be our own voice that came back before it pauses: on a line that does
return it, reverberation is often not recognised as that."""
ECHO_SPEECH = 0.2
"""On such a line a sound of less speech than this ..."""
ECHO_OVER_SECONDS = 0.1
"""... that is over so long after the voice has paused was the end of its echo."""
SPEECH_TO_RECOGNISE = 0.1
"""Speech by the detector in which words are worth looking for."""
LONG_SPEECH = 0.9
"""So much speech takes the turn whatever its words: nobody clears his throat for so long."""
LONG_QUIET = 3.0
"""Where the line is too noisy ever to be quiet, silence by the detector must last so many times as long."""


def speech_needed(turn: Turn, settings: TurnSettings) -> float:
    """Seconds of speech that begin the caller's turn while `turn` holds; infinite where none does."""
    match turn:
        case Turn.SPEAKING:
            return math.inf
        case Turn.YIELDING:
            return max(LONG_SPEECH, settings.barge_in_seconds) if settings.confirm_words else settings.barge_in_seconds
        case _:
            return settings.start_seconds


def interrupts(voiced: float, loud: float, probability: float) -> bool:
    """Whether the agent pauses for what may be the caller interrupting.

    `voiced`: seconds of speech by the detector, `probability` its latest; `loud`: seconds as loud as speech.
    """
    return voiced > VOICED_SECONDS or (loud >= LOUD_SECONDS and (voiced > 0 or probability >= POSSIBLE))


def certain(frames: int, *, echoing: bool) -> bool:
    """Whether it is somebody else who is heard, after `frames` in a row that were found not to be our own voice."""
    return frames >= (CERTAIN_ON_ECHOING_LINE if echoing else CERTAIN)


def was_echo(voiced: float, faint_for: float) -> bool:
    """Whether what made the voice pause, on a line that returns it, ended with it: see `ECHO_SPEECH`."""
    return voiced < ECHO_SPEECH and faint_for >= ECHO_OVER_SECONDS


def goes_on(quiet: float, silence: float, settings: TurnSettings) -> bool:
    """Whether the agent goes on, as what made it pause is over. Seconds: `quiet` by level, `silence` by detector."""
    return min(quiet, silence) >= settings.resume_after or silence >= LONG_QUIET * settings.resume_after
