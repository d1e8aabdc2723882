"""Where the caller's speech begins and ends."""

from __future__ import annotations

from dataclasses import dataclass

from connector.config.model import TurnSettings

HYSTERESIS = 0.15
"""Speech, once begun, lasts until the probability falls this far below `speech_probability`."""

GAP_SECONDS = 0.05
"""A dip shorter than this does not break the speech that begins a turn; a longer one starts its count anew."""

ROUNDING = 1e-6
"""Slack of the comparisons, for media times are sums of floats; less than a sample at any rate."""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The caller began to speak. Media times, seconds: `onset` of the speech, `at` the decision."""

    onset: float
    at: float


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """The caller finished. Media times, seconds: `end` of the speech, `at` the decision.

    `cut`: the turn reached its longest duration; the caller may still be speaking.
    """

    end: float
    at: float
    cut: bool = False


class Endpointing:
    """Turns the probabilities of one stream into the beginnings and ends of the caller's speech.

    A window is speech at or above `speech_probability`; once speech, it stays so down to
    `HYSTERESIS` below. Speech of the needed length (`turn.barge_in.speech_needed`) begins a turn,
    `end_silence`, to the nearest window, ends it, and `max_seconds` cuts it. After a cut nothing
    begins until the caller has paused: steady noise gets one answer and not an endless row of them.
    """

    def __init__(self, settings: TurnSettings) -> None:
        self._settings = settings
        self.reset()

    def reset(self) -> None:
        """Forgets everything heard: the next window is the first of a new stream."""
        self._started = False
        self._must_pause = False
        self._speech = False
        self._voiced = 0.0
        self._onset = 0.0
        self._end = 0.0

    @property
    def hears_speech(self) -> bool:
        """True while a turn has begun, or may be beginning."""
        return self._started or self._voiced > 0

    @property
    def voiced(self) -> float:
        """Seconds of speech in a turn that has begun, or may be beginning; 0 where none is."""
        return 0.0 if self._must_pause else self._voiced

    def feed(self, end: float, seconds: float, probability: float, needed: float) -> SpeechStarted | SpeechEnded | None:
        """Takes in one window and returns what it decides, if anything.

        `end`: media time of its last sample; `seconds`: audio that it covers; `probability`: 0 to 1;
        `needed`: seconds of speech that begin a turn now (infinite where nothing may).
        """
        threshold = self._settings.speech_probability
        self._speech = probability >= (threshold - HYSTERESIS if self._speech else threshold)
        if self._speech:
            if not self._voiced:
                self._onset = end - seconds
            self._voiced += seconds
            self._end = end
        return self._ends(end, seconds) if self._started else self._begins(end, needed)

    def finish(self, at: float) -> SpeechEnded:
        """Ends the caller's speech at media time `at`, whatever is being said."""
        self.reset()
        return SpeechEnded(at, at, cut=True)

    def _begins(self, at: float, needed: float) -> SpeechStarted | None:
        if at - self._end >= GAP_SECONDS:
            self._voiced = 0.0
            self._must_pause = False
        if self._must_pause or not self._voiced or self._voiced < needed - ROUNDING:
            return None
        self._started = True
        return SpeechStarted(self._onset, at)

    def _ends(self, at: float, window: float) -> SpeechEnded | None:
        silent = at - self._end >= self._settings.end_silence - window / 2 - ROUNDING
        too_long = at - self._onset >= self._settings.max_seconds - ROUNDING
        if not silent and not too_long:
            return None
        self._started = False
        self._voiced = 0.0
        self._must_pause = not silent
        return SpeechEnded(self._end, at, cut=not silent)
