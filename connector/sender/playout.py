"""Playout: what has been handed over to be spoken, and how much of it was heard."""

from __future__ import annotations

from collections import deque

import numpy as np

from connector.audio import Audio, Samples
from connector.codec.fifo import SampleFifo
from connector.codec.resample import Resampler, resample
from connector.interfaces import Position
from connector.sender.resumption import resumption

FADE_SECONDS = 0.005
"""Speech that is cut off fades out over this time instead of clicking, and comes back so after a pause."""
RESERVE_SECONDS = 0.06
"""After speech ran out too early, so much of it must be there before it goes on: one gap instead of many."""
ABRUPT = 328
"""Speech that begins or ends louder than this (1 % of full scale) would click, and is faded, too."""
POSITION_RATE = 48_000
"""Positions count whole parts of this, Hz, so that a change of rate in mid-call loses none."""
BACK_SECONDS = 0.6
"""After a pause, no more than this is heard again."""
LEAD_SECONDS = 0.02
"""A stretch that is converted anew begins so much before the place it goes on from: more than any filter's length."""
KEPT_SECONDS = BACK_SECONDS + FADE_SECONDS + 2 * LEAD_SECONDS
NOTHING: Samples = np.empty(0, np.int16)


class _Stretch:
    """Speech of one rate, `source`, on its way to the rate of the wire, `target`; converted as it is needed.

    Converting late keeps `write` short, however long the text that a synthesiser spoke at once.
    """

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.closed = False
        """Nothing more is appended."""
        self._pieces: deque[Samples] = deque()
        self._piece: Samples = NOTHING
        self._used = 0
        """Samples of `_piece` that were converted; the last of `_past` ends where `_piece` begins."""
        self._past: deque[Samples] = deque()
        self._passed = 0
        """Samples of `_past`."""
        self._fed = 0
        """Samples converted since the rate is what it is, and `_taken`: what was taken of the result."""
        self._taken = 0
        self._repeated = 0
        """Samples of the result to drop: they were heard at another rate."""
        self._begin(target)

    def _begin(self, target: int) -> None:
        self._target = target
        self._resampler = Resampler(self.source, target) if target != self.source else None
        self._ready = SampleFifo()

    def append(self, samples: Samples) -> None:
        self._pieces.append(samples)

    @property
    def exhausted(self) -> bool:
        """Whether all of it was taken, and nothing follows."""
        return self.closed and self._resampler is None and not len(self._ready) and not self._more()

    def prepare(self, count: int) -> int:
        """Converts until `count` samples are ready, if there are so many; how many are."""
        ready = self._ready
        while (missing := count - len(ready)) > 0 and self._more():
            # A whole number of samples for a whole frame: all frames then cost the same few phases.
            wanted = -(-missing * self.source // self._target)
            samples = self._piece[self._used : self._used + wanted]
            self._used += len(samples)
            self._fed += len(samples)
            self._put(samples if self._resampler is None else self._resampler.process(samples))
        if self.closed and self._resampler is not None and not self._more():
            self._put(self._resampler.flush())
            self._resampler = None
        return len(ready)

    def _put(self, samples: Samples) -> None:
        self._ready.append(samples)
        if self._repeated:
            self._repeated -= len(self._ready.take(self._repeated))

    def take(self, count: int) -> Samples:
        """The next `count` ready samples, or all where there are fewer."""
        samples = self._ready.take(count)
        self._taken += len(samples)
        return samples

    def retarget(self, target: int) -> None:
        """Goes on at another rate from the very place that was reached."""
        past = self._remembered()
        self._go_on(past, self._reached(past), target)

    def go_back(self, faded: float, back: float) -> float:
        """Goes on `faded` seconds before the place that was reached, or up to `back` more, where a word begins.

        Returns how far it went, seconds.
        """
        past = self._remembered()
        reached = self._reached(past)
        end = max(0, reached - round(faded * self.source))
        begin = max(0, end - round(min(back, BACK_SECONDS) * self.source))
        place = begin + resumption(past[begin:end], self.source) if begin < end else end
        self._go_on(past, place, self._target)
        return (reached - place) / self.source

    @property
    def _kept(self) -> int:
        """How many converted samples are remembered: what may be heard again, with the fade and the lead before it."""
        # What is converted and not taken yet lies behind them.
        return round(KEPT_SECONDS * self.source) + len(self._ready) * self.source // self._target

    def _remembered(self) -> Samples:
        """The last of what was converted."""
        used = self._piece[max(0, self._used - self._kept) : self._used]
        return np.concatenate((*self._past, used)) if len(used) == self._used else used

    def _reached(self, past: Samples) -> int:
        """The place in `past` up to which it was taken."""
        return max(0, len(past) - self._fed + self._taken * self.source // self._target)

    def _go_on(self, past: Samples, place: int, target: int) -> None:
        """Converts from `place` in `past` on."""
        # Begin a little before that place, so that the filter has its past, and drop what that makes.
        start = max(0, place - round(LEAD_SECONDS * self.source))
        rest = self._piece[self._used :]
        self._pieces.extendleft(piece for piece in (rest, past[start:]) if len(piece))
        self._past, self._passed = deque((past[:start],)), start
        self._piece, self._used = NOTHING, 0
        self._fed, self._taken = 0, round((place - start) * target / self.source)
        self._repeated = self._taken
        self._begin(target)

    def _more(self) -> bool:
        """Whether `_piece` has unused samples; where it has none, the next piece takes its place."""
        while self._used == len(self._piece):
            if not self._pieces:
                return False
            kept = self._kept
            self._past.append(self._piece if self._used <= kept else self._piece[-kept:])
            self._passed += len(self._past[-1])
            while self._passed - len(self._past[0]) >= kept:
                self._passed -= len(self._past.popleft())
            self._piece, self._used = self._pieces.popleft(), 0
        return True


class _Generation:
    """The speech of one generation: stretches of any rates, one after the other."""

    def __init__(self, number: int, rate: int) -> None:
        self.number = number
        self.finished = False
        self.over = False
        """Emitted whole, cleared or superseded."""
        self._emitted = 0
        """Units of POSITION_RATE."""
        self._most = 0.0
        """Seconds written. `_earlier`: of it, those of all stretches but the last, which has `_samples`."""
        self._earlier = 0.0
        self._samples = 0
        self._end: Audio | None = None
        """The last piece of it."""
        self._stretches: deque[_Stretch] = deque()
        self._retarget(rate)

    def append(self, audio: Audio) -> None:
        if not len(audio.samples):
            return
        if not self._stretches or self._stretches[-1].source != audio.rate:
            self._close()
            self._stretches.append(_Stretch(audio.rate, self._rate))
            self._earlier, self._samples = self._most, 0
        self._stretches[-1].append(audio.samples)
        self._samples += len(audio.samples)
        self._most = self._earlier + self._samples / audio.rate
        self._end = audio

    def finish(self, sounding: bool) -> None:
        """Nothing more is appended. Where it ends at once, it rings out, if it is `sounding` or goes on to."""
        end = self._end
        goes_on = sounding or self.position.seconds < self._most
        if goes_on and end is not None and abs(int(end.samples[-1])) > ABRUPT:
            self._stretches[-1].append(_backwards(end.samples, round(FADE_SECONDS * end.rate)))
        self.finished = True
        self._close()

    def end(self) -> None:
        """Nothing more of it is emitted."""
        self.over = True
        self._stretches.clear()

    def retarget(self, rate: int) -> None:
        """Goes on at another rate of the wire."""
        self._retarget(rate)
        for stretch in self._stretches:
            stretch.retarget(rate)

    def go_back(self, faded: float, back: float) -> None:
        """Goes on `faded` seconds before the place that was reached, or up to `back` more, where a word begins.

        A stretch of another rate is another voice's, or another engine's: its begin is a word's.
        """
        if self._stretches:
            gone = self._stretches[0].go_back(faded, back)
            self._emitted = max(0, self._emitted - round(gone * POSITION_RATE))

    def prepare(self, count: int) -> int:
        """Converts until `count` samples are ready, if there are so many; how many are."""
        ready = 0
        for stretch in self._stretches:
            ready += stretch.prepare(count - ready)
            if ready >= count:
                break
        return ready

    def take(self, count: int) -> Samples:
        """The next `count` prepared samples, or all where there are fewer; they count as emitted."""
        stretches = self._stretches
        samples = stretches[0].take(count) if stretches else NOTHING
        while len(stretches) > 1 and stretches[0].exhausted:
            stretches.popleft()
            samples = np.concatenate((samples, stretches[0].take(count - len(samples))))
        self._emitted += len(samples) * self._unit
        return samples

    @property
    def exhausted(self) -> bool:
        """Whether all of a finished generation was taken."""
        return self.finished and all(stretch.exhausted for stretch in self._stretches)

    @property
    def position(self) -> Position:
        return Position(self.number, min(self._emitted / POSITION_RATE, self._most))

    def _close(self) -> None:
        if self._stretches:
            self._stretches[-1].closed = True

    def _retarget(self, rate: int) -> None:
        self._rate = rate
        self._unit = POSITION_RATE // rate


class Playout:
    """Speech of the current generation, pulled frame by frame; an older generation's is stale.

    `rate`: of what is pulled, Hz, a divisor of 48 kHz. Positions count the generation's own samples: not the padding of
    its last frame, nor what is made up so that nothing clicks.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._fade = round(FADE_SECONDS * rate)
        self._current: _Generation | None = None
        self._lowest: int | None = None
        self._over: dict[int, Position] = {}
        self._paused = False
        self._faded = 0.0
        """Seconds of speech that faded out when the pause began."""
        self._starved = False
        """Speech ran out in the midst of a generation."""
        self._sounding: Samples | None = None
        """The frame that was pulled last, where it is speech."""
        self._rising = False
        """What comes next fades in, whatever it begins with."""
        self._tail: Samples | None = None

    def __str__(self) -> str:
        return f"playout of generation {self.position.generation}{', paused' if self._paused else ''}"

    @property
    def rate(self) -> int:
        """Of what is pulled, Hz; a new one holds from the next pull on, and speech goes on where it was."""
        return self._rate

    @rate.setter
    def rate(self, rate: int) -> None:
        if rate == self._rate:
            return
        if self._current is not None:
            self._current.retarget(rate)
        if self._tail is not None:
            self._tail = resample(Audio(self._tail, self._rate), rate).samples
        if self._sounding is not None:
            self._sounding = resample(Audio(self._sounding, self._rate), rate).samples
        self._rate = rate
        self._fade = round(FADE_SECONDS * rate)

    def write(self, generation: int, audio: Audio) -> None:
        """Appends speech of any rate; dropped where `generation` is stale."""
        current = self._enter(generation)
        if current is not None and not current.finished:
            current.append(audio)

    def finish(self, generation: int) -> None:
        """Nothing follows in `generation`: its last partial frame is padded and played."""
        current = self._enter(generation)
        if current is not None and not current.finished:
            current.finish(self._sounding is not None)
            current.prepare(0)
            if current.exhausted:
                self._end(current)

    def pause(self) -> None:
        """Silence until `resume` or `clear`."""
        if not self._paused:
            self._faded = self._cut()
            self._paused = True

    def resume(self, back: float = 0.0) -> None:
        """Goes on where `pause` stopped: what faded out then fades in.

        `back`: or at most so many seconds earlier, no more than 0.6, where the word begins in which it paused, or at
        the quietest place; the position goes back with it. What was emitted whole is over, and stays so.
        """
        current = self._current
        if self._paused and current is not None and not current.over:
            current.go_back(self._faded, back)
        self._paused = False

    def clear(self) -> Position:
        """Drops the rest of the current generation, which is stale from now on; returns what was heard of it."""
        self._paused = False
        self._abandon()
        if self._current is not None:
            self._lowest = self._current.number + 1
        return self.position

    @property
    def position(self) -> Position:
        """What was emitted of the current generation."""
        return Position(0, 0.0) if self._current is None else self._current.position

    def over(self, generation: int) -> Position | None:
        """What was heard of a generation that was emitted whole, cleared or superseded; None while it is not over."""
        if generation in self._over:
            return self._over[generation]
        stale = self._lowest is not None and generation < self._lowest
        return Position(generation, 0.0) if stale else None

    def pull(self, count: int) -> Samples | None:
        """The next `count` samples, or None for silence.

        A frame that a generation cannot fill yet waits, whole, until it can or the generation is finished. What was
        heard before it rings out, and what comes after it fades in, once there is a reserve.
        """
        if self._tail is not None:
            return self._rest(count)
        current = self._current
        if current is None or current.over or self._paused:
            return None
        wanted = count if not self._starved else max(count, round(RESERVE_SECONDS * self._rate))
        if current.prepare(wanted) < wanted and not current.finished:
            if self._sounding is None:
                return None
            self._starved = self._rising = True
            self._ring_out()
            return self._rest(count)
        self._starved = False
        samples = current.take(count)
        if self._sounding is None and len(samples) and (self._rising or abs(int(samples[0])) > ABRUPT):
            samples = self._risen(samples)
        self._rising = False
        self._sounding = samples
        if current.exhausted:
            self._end(current)
            self._sounding = None
        return _padded(samples, count)

    def _rest(self, count: int) -> Samples | None:
        """What rings out, padded."""
        tail, self._tail = self._tail, None
        return None if tail is None else _padded(tail, count)

    def _enter(self, generation: int) -> _Generation | None:
        """The current generation if it is `generation`, begun where it is a new one; None for a stale one."""
        if self._lowest is not None and generation < self._lowest:
            return None
        if self._current is None or generation > self._current.number:
            self._abandon()
            self._current = _Generation(generation, self._rate)
            self._lowest = generation
        return self._current

    def _abandon(self) -> None:
        if self._current is not None and not self._current.over:
            self._cut()
            self._end(self._current)

    def _end(self, generation: _Generation) -> None:
        generation.end()
        self._over[generation.number] = generation.position
        self._rising = self._starved = False

    def _cut(self) -> float:
        """Lets speech that is sounding fade out, with what would have come next where that is there.

        Returns how much of that was taken, seconds.
        """
        current = self._current
        if current is None or self._sounding is None:
            return 0.0
        if current.prepare(self._fade) < self._fade:
            self._ring_out()
            taken = 0.0
        else:
            rest = current.take(self._fade)
            self._tail = np.rint(rest * np.linspace(1.0, 0.0, len(rest))).astype(np.int16)
            taken = FADE_SECONDS
        self._sounding = None
        self._rising = True
        return taken

    def _ring_out(self) -> None:
        """Lets speech that stopped at once fade out, by what was heard of it."""
        sounding, self._sounding = self._sounding, None
        if sounding is not None and len(sounding) and abs(int(sounding[-1])) > ABRUPT:
            self._tail = _backwards(sounding, self._fade)

    def _risen(self, samples: Samples) -> Samples:
        count = min(len(samples), self._fade)
        gains = np.ones(len(samples))
        gains[:count] = np.linspace(0.0, 1.0, count)
        return np.rint(samples * gains).astype(np.int16)


def _backwards(samples: Samples, count: int) -> Samples:
    """What `samples` ring out with: their last `count`, backwards, which begin where they end, fading."""
    back = samples[: -count - 1 : -1]
    return np.rint(back * np.linspace(1.0, 0.0, len(back))).astype(np.int16)


def _padded(samples: Samples, count: int) -> Samples:
    if len(samples) == count:
        return samples
    padded = np.zeros(count, np.int16)
    padded[: len(samples)] = samples
    return padded
