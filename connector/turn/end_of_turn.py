"""How long to wait for a caller who has paused: by the words so far, and by how they sounded."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from connector.config.model import TurnSettings
from connector.turn.completeness import Completeness

SHARE: Mapping[Completeness, float] = MappingProxyType(
    {
        Completeness.COMPLETE: 0.0,
        Completeness.DICTATED: 0.06,
        Completeness.OPEN: 0.5,
        Completeness.DICTATING: 0.6,
        Completeness.UNFINISHED: 1.0,
    }
)
"""Of the way from `end_silence` to `long_silence`: people pause so long within such sentences, and go on."""

UNSURE = 0.2
"""Below this an audio model says that it sounds unfinished, which is true of half of the sentences that are cut in a
phrase and of one in 25 finished ones (`bench/turns`); what it says above it tells next to nothing."""
AUDIO_WEIGHT = 0.4
"""Of that way, what is added at most where it sounds unfinished."""

ROOM_SECONDS = 0.8
"""So long before the silence is over an answer is begun at the latest: about what engines need."""


def silence_needed(settings: TurnSettings, words: Completeness | None, finished: float | None) -> float:
    """Seconds of silence that end the turn.

    `words`: what the words so far are, None where none are known: then the shortest wait. `finished`: probability by
    the audio model, 0 to 1, None where there is none.
    """
    if words is None:
        return settings.end_silence
    share = SHARE[words]
    if finished is not None:
        share += AUDIO_WEIGHT * max(0.0, 1 - finished / UNSURE)
    span = max(0.0, settings.long_silence - settings.end_silence)
    return settings.end_silence + span * min(share, 1.0)


def worth_beginning(settings: TurnSettings, needed: float, quiet: float) -> bool:
    """Whether an answer is begun after `quiet` seconds, where `needed` ones will end the turn."""
    return quiet >= max(settings.hint_silence, needed - ROOM_SECONDS)
