"""The turn state machine, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from connector.errors import ProtocolError


class Turn(Enum):
    """Whose turn it is."""

    LISTENING = "listening"
    """Nobody speaks."""
    CALLER_SPEAKING = "caller speaking"
    """The caller has begun and has not finished."""
    THINKING = "thinking"
    """An answer is on its way and nothing of it was handed to the port."""
    SPEAKING = "speaking"
    """The agent's voice is being played."""
    YIELDING = "yielding"
    """The agent's voice is paused: the caller may be interrupting."""


class TurnEvent(Enum):
    """What moves the turn on."""

    CALLER_STARTED = "caller started"
    """Speech long enough to count, or words over the agent's voice, which is barge-in."""
    CALLER_FINISHED = "caller finished"
    """Silence long enough to count, or the turn's longest duration."""
    KEY_PRESSED = "key pressed"
    """A DTMF key: it silences the agent, and an answer on its way is taken back."""
    KEYS_ENTERED = "keys entered"
    """The key sequence is complete and is answered."""
    PROMPT_DUE = "prompt due"
    """The agent speaks unasked: greeting, reprompt."""
    NOTHING_HEARD = "nothing heard"
    """The recogniser found no words."""
    VOICE_STARTED = "voice started"
    """The first audio of the answer was handed to the port."""
    VOICE_PAUSED = "voice paused"
    """Something was heard over the agent's voice."""
    VOICE_RESUMED = "voice resumed"
    """It was nothing: a cough, a listener's "uh-huh", the agent's own echo."""
    REPLY_OVER = "reply over"
    """The answer was played to its end, or there was none to play."""


TRANSITIONS: Mapping[tuple[Turn, TurnEvent], Turn] = MappingProxyType(
    {
        (Turn.LISTENING, TurnEvent.CALLER_STARTED): Turn.CALLER_SPEAKING,
        (Turn.LISTENING, TurnEvent.KEY_PRESSED): Turn.LISTENING,
        (Turn.LISTENING, TurnEvent.KEYS_ENTERED): Turn.THINKING,
        (Turn.LISTENING, TurnEvent.PROMPT_DUE): Turn.THINKING,
        (Turn.CALLER_SPEAKING, TurnEvent.CALLER_FINISHED): Turn.THINKING,
        (Turn.CALLER_SPEAKING, TurnEvent.KEY_PRESSED): Turn.CALLER_SPEAKING,
        (Turn.THINKING, TurnEvent.CALLER_STARTED): Turn.CALLER_SPEAKING,
        (Turn.THINKING, TurnEvent.KEY_PRESSED): Turn.LISTENING,
        (Turn.THINKING, TurnEvent.NOTHING_HEARD): Turn.LISTENING,
        (Turn.THINKING, TurnEvent.VOICE_STARTED): Turn.SPEAKING,
        (Turn.THINKING, TurnEvent.REPLY_OVER): Turn.LISTENING,
        (Turn.SPEAKING, TurnEvent.VOICE_PAUSED): Turn.YIELDING,
        (Turn.SPEAKING, TurnEvent.KEY_PRESSED): Turn.LISTENING,
        (Turn.SPEAKING, TurnEvent.REPLY_OVER): Turn.LISTENING,
        (Turn.YIELDING, TurnEvent.CALLER_STARTED): Turn.CALLER_SPEAKING,
        (Turn.YIELDING, TurnEvent.VOICE_RESUMED): Turn.SPEAKING,
        (Turn.YIELDING, TurnEvent.KEY_PRESSED): Turn.LISTENING,
        (Turn.YIELDING, TurnEvent.REPLY_OVER): Turn.LISTENING,
    }
)
"""Every (turn, event) that may happen, and the turn that follows."""


class TurnMachine:
    """The turn of one conversation. It begins with nobody speaking."""

    def __init__(self) -> None:
        self._turn = Turn.LISTENING

    @property
    def turn(self) -> Turn:
        """Whose turn it is now."""
        return self._turn

    def apply(self, event: TurnEvent) -> Turn:
        """Moves on by `event` and returns the new turn.

        Raises `ProtocolError`, and changes nothing, where the table has no such row.
        """
        following = TRANSITIONS.get((self._turn, event))
        if following is None:
            raise ProtocolError(f"turn: {event.value!r} cannot happen while {self._turn.value!r}")
        self._turn = following
        return following


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {Turn.LISTENING.name}"]
    lines += [
        f"    {turn.name} --> {following.name}: {event.value}" for (turn, event), following in TRANSITIONS.items()
    ]
    return "\n".join(lines) + "\n"
