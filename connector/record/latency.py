"""Latency from the wire: the silence that a caller hears, and the parts that add up to it.

Both directions are measured by the energy of 5 ms hops. A hop is speech where it is within 32 dB of
the turn's own active level. Sample `k` of a packet counts as being on the wire at the packet's
arrival or emission plus `k` samples, in both directions alike.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from connector.audio import FRAME_SECONDS, Frame, Samples
from connector.interfaces import TurnTiming

HOP_SECONDS = 0.005
HOPS = round(FRAME_SECONDS / HOP_SECONDS)

RELATIVE = 10 ** (-32 / 20)
"""Speech is at least this much of the active level (-32 dB)."""

ACTIVE = 0.1
"""Hops above this much of the loudest one make the active level."""

OVER_NOISE = 2.0
"""Speech is at least 6 dB above the line's noise floor ..."""

MOST = 0.25
"""... but the noise floor never asks for more than 12 dB below the active level."""

AUDIBLE = 32768 * 10 ** (-50 / 20)
"""A stretch whose loudest hop stays below -50 dBFS is silence."""

PAUSE = 1.5
"""Seconds of silence that part one utterance from the one before."""

BATCH = 50
"""Frames (a second) whose levels are taken at once: many small sums would cost the event loop more than a large one."""

HISTORY = 15_000
"""Frames (5 minutes) kept while a turn goes on."""


@dataclass(frozen=True, slots=True)
class WireTurn:
    """Instants of one turn on the wire, in clock time; None where nothing was audible."""

    caller_start: float | None
    caller_end: float | None
    agent_start: float | None
    agent_end: float | None


class Parts(BaseModel):
    """What a turn's silence was spent on, in whole milliseconds; None where a step did not happen.

    A step that did not happen leaves its time to the next one, and one that was over before the step
    before it takes none: the parts are never negative and always add up to the silence heard.
    """

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    end_of_turn: int | None = None
    """From the end of the caller's speech on the wire until the answer was begun, at a hint that the turn was over or
    else once that was decided; without the recognition that went before."""
    stt: int | None = None
    """Until the caller's words were known."""
    llm: int | None = None
    """Until the first token of the reply."""
    sentence: int | None = None
    """Until its first sentence went to the voice."""
    tts: int | None = None
    """Until the first audio of it."""
    held: int | None = None
    """Until it was decided that the turn was over: the answer was ready and waited."""
    playout: int | None = None
    """Until the first audible sample of it was emitted."""

    @property
    def total(self) -> int:
        """The sum."""
        return sum(part for _, part in self if part is not None)


class Latency(BaseModel):
    """Voice to voice, as a line tester would measure it."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    silence_ms: int | None
    """From the caller's last sound to the agent's first, on the wire: 0 where they overlap, None where one of both did
    not speak."""
    decided_ms: int | None = None
    """After so much of it the turn was taken, while the answer may have been in the making; None where nobody spoke."""
    parts_ms: Parts
    """What it was spent on."""


class WireLatency:
    """An `AudioTap` that keeps the levels of both directions and finds the edges of each turn in them."""

    def __init__(self) -> None:
        self._caller = _Levels(noisy=True)
        self._agent = _Levels(noisy=False)

    def received(self, frame: Frame, at: float) -> None:
        self._caller.add(frame, at)

    def emitted(self, frame: Frame, at: float) -> None:
        self._agent.add(frame, at)

    def turn(self, timing: TurnTiming) -> WireTurn:
        """Measures the turn that has just ended, and forgets what lies before it.

        Without `speech_end` (a greeting, keys) nobody waited for an answer to speech.
        """
        start, end = None, None
        if timing.decided is not None:
            if timing.speech_end is not None:
                start, end = self._caller.utterance(timing.decided)
            self._caller.forget(timing.decided)
        first, last = None, None
        if timing.first_audio is not None:
            played = timing.first_audio if timing.released is None else max(timing.first_audio, timing.released)
            # What leaves in the same tick as the first audio is written bears that tick's time.
            first, last = self._agent.edges(played - FRAME_SECONDS)
            self._agent.forget(played)
        return WireTurn(caller_start=start, caller_end=end, agent_start=first, agent_end=last)


def latency(timing: TurnTiming, wire: WireTurn) -> Latency:
    """The silence between both voices and its parts; whole milliseconds, so that they add up exactly."""
    begin, end = _milliseconds(wire.caller_end), _milliseconds(wire.agent_start)
    decided = _milliseconds(timing.decided)
    parts: dict[str, int] = {}
    reached = begin
    for name, instant in _steps(timing, wire):
        at = _milliseconds(instant)
        if at is None:
            continue
        if end is not None:
            at = min(at, end)
        if reached is not None:
            at = max(at, reached)
            parts[name] = parts.get(name, 0) + at - reached
        reached = at
    return Latency(
        silence_ms=None if begin is None or end is None else max(0, end - begin),
        decided_ms=None if begin is None or decided is None else max(0, decided - begin),
        parts_ms=Parts(**parts),
    )


def _steps(timing: TurnTiming, wire: WireTurn) -> Sequence[tuple[str, float | None]]:
    """What a caller waits for, part by part, and until when.

    An answer that was begun before the end of the turn was decided is made while the silence goes on. What is
    waited for at any moment is then the making, step by step, and the decision while that alone is missing:
    until there is a hint of it, and once the answer is ready.
    """
    hint, recognition = timing.hint, timing.decided
    if hint is not None:
        recognition = hint if timing.recognition is None else min(timing.recognition, hint)
    return (
        ("end_of_turn", recognition),
        ("stt", timing.transcribed),
        ("end_of_turn", hint),
        ("llm", timing.first_token),
        ("sentence", timing.first_sentence),
        ("tts", timing.first_audio),
        ("held", None if hint is None else timing.released),
        ("playout", wire.agent_start),
    )


def percentiles(values: Iterable[int | None]) -> tuple[int | None, int | None]:
    """Median and 95th percentile of those `values` that there are, interpolated; None where there are none."""
    known = sorted(value for value in values if value is not None)
    return (_quantile(known, 0.5), _quantile(known, 0.95)) if known else (None, None)


def _quantile(ordered: Sequence[int], share: float) -> int:
    position = share * (len(ordered) - 1)
    below, above = ordered[math.floor(position)], ordered[math.ceil(position)]
    return round(below + (above - below) * (position - math.floor(position)))


def _milliseconds(instant: float | None) -> int | None:
    return None if instant is None else round(instant * 1000)


class _Levels:
    """RMS of one direction per hop, with the clock time of each frame."""

    _phases = count()

    def __init__(self, *, noisy: bool) -> None:
        self._noisy = noisy
        # The first batch is of any size, so that calls that began at once are not measured at once.
        self._batch = 1 + 19 * next(self._phases) % BATCH
        self._times = array("d")
        self._levels = array("f")
        self._waiting: list[Samples] = []

    def add(self, frame: Frame, at: float) -> None:
        if len(self._waiting) >= self._batch or (self._waiting and len(self._waiting[0]) != len(frame.samples)):
            self._measure()
        self._waiting.append(frame.samples)
        self._times.append(at)

    def forget(self, until: float) -> None:
        """Forgets the frames that began before `until`."""
        self._measure()
        self._drop(sum(1 for at in self._times if at < until))

    def utterance(self, until: float) -> tuple[float | None, float | None]:
        """Start and end of the last utterance that was heard before `until`."""
        starts = self._speech(lambda times: times < until)
        if not len(starts):
            return None, None
        pauses = np.flatnonzero(np.diff(starts) > PAUSE)
        first = pauses[-1] + 1 if len(pauses) else 0
        return float(starts[first]), float(starts[-1]) + HOP_SECONDS

    def edges(self, since: float) -> tuple[float | None, float | None]:
        """First onset after `since` and the last end."""
        starts = self._speech(lambda times: times > since)
        if not len(starts):
            return None, None
        return float(starts[0]), float(starts[-1]) + HOP_SECONDS

    def _speech(self, chosen: Callable[[NDArray[np.float64]], NDArray[np.bool_]]) -> NDArray[np.float64]:
        """Start times of the hops that are speech, in order, among those that `chosen` picks by their start."""
        self._measure()
        times = (np.array(self._times)[:, None] + np.arange(HOPS) * HOP_SECONDS).ravel()
        picked = chosen(times)
        times, levels = times[picked], np.array(self._levels)[picked]
        starts: NDArray[np.float64] = times[levels >= self._threshold(levels)]
        return starts

    def _threshold(self, levels: NDArray[np.float32]) -> float:
        loudest = float(levels.max(initial=0.0))
        if loudest < AUDIBLE:
            return float("inf")
        active = float(np.sqrt(np.mean(levels[levels > loudest * ACTIVE] ** 2)))
        threshold = active * RELATIVE
        if self._noisy:
            noise = float(np.percentile(levels, 10))
            threshold = max(threshold, min(noise * OVER_NOISE, active * MOST))
        return threshold

    def _measure(self) -> None:
        """Takes the levels of the frames that wait."""
        self._batch = BATCH
        if self._waiting:
            hops = np.concatenate(self._waiting).astype(np.float32).reshape(len(self._waiting) * HOPS, -1)
            self._levels.frombytes(np.sqrt(np.einsum("ij,ij->i", hops, hops) / hops.shape[1]).tobytes())
            self._waiting.clear()
            self._drop(max(0, len(self._times) - HISTORY))

    def _drop(self, frames: int) -> None:
        del self._times[:frames]
        del self._levels[: frames * HOPS]
