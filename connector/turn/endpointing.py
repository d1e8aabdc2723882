"""Where the caller's speech begins and ends."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from connector.config.model import TurnSettings
from connector.turn.level import HOP_SECONDS, SpeechLevel

HYSTERESIS = 0.15
"""Speech, once begun, lasts until the probability falls this far below `speech_probability`."""

GAP_SECONDS = 0.05
"""A dip shorter than this does not break the speech that begins a turn; a longer one starts its count anew."""

RUN_HOPS = 2
"""A single loud hop is a click and no speech."""
DOUBT_SECONDS = 0.12
"""It may be speech again, for all that a detector can say so soon: no turn ends meanwhile."""

FAINT = 10 ** (-22 / 20)
"""What is so much less loud than the caller has been is not the caller: somebody in the room, or a faint echo."""
USUAL_LEVEL = 3000.0
"""Of a caller who has not spoken yet: -21 dBFS, the loudest hops of usual telephone speech."""
FADING = 0.8
"""Of the level heard last, per hop: what was loud 0.1 s ago is over."""

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
    """Turns what is heard of one stream into the beginnings and ends of the caller's speech.

    Two witnesses: the detector's probabilities say whether it is speech; the levels say at once when it pauses. A
    window is speech at or above `speech_probability`; once speech, it stays so down to `HYSTERESIS` below. Speech of
    the needed length (`turn.barge_in.speech_needed`) begins a turn, `patience` of silence ends it, and `max_seconds`
    cuts it. After a cut nothing begins until the caller has paused: steady noise gets one answer and not an endless
    row of them.
    """

    def __init__(self, settings: TurnSettings) -> None:
        self._settings = settings
        self._level = SpeechLevel()
        self._latest = 0.0
        self._caller_end = -inf
        self._callers: float | None = None
        self.patience = settings.end_silence
        """Seconds of silence that end the turn in hand; a new turn begins with `end_silence`."""
        self.reset()

    def reset(self) -> None:
        """Forgets everything heard: what comes is the beginning of a new stream."""
        self._started = False
        self._must_pause = False
        self._speech = False
        self._voiced = 0.0
        self._onset = 0.0
        self._end = 0.0
        self._run = 0
        self._loud_end = -inf
        self.probability = 0.0
        """The latest window's."""
        self.patience = self._settings.end_silence

    @property
    def hears_speech(self) -> bool:
        """True while a turn has begun, or may be beginning."""
        return self._started or self._voiced > 0

    @property
    def voiced(self) -> float:
        """Seconds of speech in a turn that has begun, or may be beginning; 0 where none is."""
        return 0.0 if self._must_pause else self._voiced

    @property
    def loud(self) -> float:
        """Seconds for which it has been as loud as speech until now."""
        return 0.0 if self._must_pause else self._run * HOP_SECONDS

    @property
    def faint(self) -> bool:
        """Whether what is heard now is too quiet to be the caller."""
        usual = USUAL_LEVEL if self._callers is None else self._callers
        return self._latest < usual * FAINT

    def faint_for(self, at: float) -> float:
        """Seconds for which, at media time `at`, it has been too quiet to be the caller."""
        return at - self._caller_end

    @property
    def onset(self) -> float:
        """Media time at which the speech began that `voiced` counts."""
        return self._onset

    @property
    def end(self) -> float:
        """Media time at which the latest speech ended, by both witnesses."""
        return min(self._end, self._loud_end) if self._loud_end > self._onset else self._end

    def quiet(self, at: float) -> float:
        """Seconds for which, at media time `at`, it has been too quiet for speech: the first hint of an end."""
        return at - max(self._loud_end, self._onset)

    def silence(self, at: float) -> float:
        """Seconds of silence at media time `at`: since the level fell, once the detector hears no speech either."""
        return 0.0 if self._speech else at - self.end

    def hear(self, end: float, levels: tuple[float, ...]) -> SpeechEnded | None:
        """Takes in a frame that ends at media time `end` by the levels of its hops, and returns what that decides."""
        start = end - len(levels) * HOP_SECONDS
        for index, level in enumerate(levels, 1):
            self._latest = max(level, self._latest * FADING)
            if not self.faint:
                self._caller_end = start + index * HOP_SECONDS
            if not self._level.loud(level):
                self._run = 0
                continue
            self._run += 1
            if self._run >= RUN_HOPS:
                self._loud_end = start + index * HOP_SECONDS
        if not self._started:
            return None
        self._callers = max(*levels, self._callers or 0.0)
        return self._ends(end, 0.0)

    def feed(self, end: float, seconds: float, probability: float, needed: float) -> SpeechStarted | SpeechEnded | None:
        """Takes in one window of the detector and returns what it decides, if anything.

        `end`: media time of its last sample; `seconds`: audio that it covers; `probability`: 0 to 1;
        `needed`: seconds of speech that begin a turn now (infinite where nothing may).
        """
        self.probability = probability
        threshold = self._settings.speech_probability
        self._speech = probability >= (threshold - HYSTERESIS if self._speech else threshold)
        if self._speech:
            if not self._voiced:
                self._onset = end - seconds
            self._voiced += seconds
            self._end = end
        return self._ends(end, seconds) if self._started else self._begins(end, needed)

    def begin(self, at: float) -> SpeechStarted:
        """What is being said is the caller's turn, however short it is: its words say so."""
        self._started = True
        self._must_pause = False
        return SpeechStarted(self._onset, at)

    def finish(self, at: float) -> SpeechEnded:
        """Ends the caller's speech at media time `at`, whatever is being said."""
        self.reset()
        return SpeechEnded(at, at, cut=True)

    def discount(self) -> None:
        """What was heard until now was the agent's own voice; what comes may be the caller's."""
        self._started = False
        self._voiced = 0.0
        self._run = 0

    def forget(self) -> None:
        """What was heard until now was no turn, nor is what goes on of it."""
        self._started = False
        self._voiced = 0.0
        self._must_pause = self._speech

    def _begins(self, at: float, needed: float) -> SpeechStarted | None:
        if at - self._end >= GAP_SECONDS:
            self._voiced = 0.0
            self._must_pause = False
        if self._must_pause or not self._voiced or self._voiced < needed - ROUNDING:
            return None
        return self.begin(at)

    def _ends(self, at: float, window: float) -> SpeechEnded | None:
        doubtful = RUN_HOPS <= self._run < DOUBT_SECONDS / HOP_SECONDS
        silent = not doubtful and self.silence(at) >= self.patience - window / 2 - ROUNDING
        too_long = at - self._onset >= self._settings.max_seconds - ROUNDING
        if not silent and not too_long:
            return None
        ended = SpeechEnded(self.end, at, cut=not silent)
        self._started = False
        self._voiced = 0.0
        self._must_pause = not silent
        self.patience = self._settings.end_silence
        return ended
