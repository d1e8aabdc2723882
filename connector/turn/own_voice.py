"""Whether what is heard while the agent speaks is only its own voice coming back.

A speakerphone in a room, or a hybrid of the analogue network (ITU-T G.168), returns what we emit: later by the round
trip, quieter by the echo return loss, coloured, reverberant and coded twice. To a voice activity detection that is
speech. To a linear filter of what was emitted it is no news:

    heard = path * emitted + reverberation + line noise + caller

The first 0.1 s of an echo tell where its path begins (the peak of the generalised cross-correlation, Knapp and Carter
1976) and roughly what it is (a short least-squares filter). From then on a longer filter is learned, by least squares
over all that was found to be echo, and with it how much that filter usually leaves of an echo. More than that is
somebody else: of a caller, what we emit predicts nothing, and the filter was made before he spoke.

This is no echo canceller, which works on every sample of every call: it computes when it is asked, from frames that
were kept, at 4 kHz, which holds nearly all of a voice on the phone. Behind an echo canceller it judges what is left.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from connector.audio import Frame

ECHO_SHARE = 0.75
"""Who explains this much of a window hears an echo. Of echoes alone, in reverberant rooms and on noisy lines too, 99 of
100 windows of 0.1 s have more; a caller as loud as the echo brings it to one half, and one 5 dB louder to a quarter."""

SHORTEST, LONGEST = 0.06, 0.5
"""Seconds of a window: in less, any voice looks like any other; more would take too long to compute."""
MAX_DELAY, EARLY = 0.44, 0.02
"""Seconds that an echo may come after its emission, and before it where the clocks of both directions do not agree."""
KEPT_FRAMES = 80
"""1.6 s of either direction: the longest window, delay and path; what came before shows the line's noise and loss."""
TIMED_FRAMES = 15
"""Newest frames that tell how media time and clock relate; their median is free of the network's jitter."""

RATE = 4000
"""Hz of all that follows."""
OUTPUTS = 16
"""Samples that a row of the decimator's matrix product makes."""
DECIMATOR_SPAN, PASSBAND = 8, 0.85
"""Half the length of its filter in samples of `RATE`, and what of `RATE` / 2 it passes."""
PRODUCT_SIZE = 250_000
"""Multiplications of a matrix product. From twice as many on OpenBLAS uses threads, which spin beside the calls."""
BLOCK = 80
"""Samples of a frame, over which levels are taken."""
NOISE_BIAS = 1.3
"""The quietest of many blocks has less than the noise's mean power."""
AUDIBLE = 2.0
"""Power over the line's noise (3 dB) below which a window holds nothing to judge."""
FRICATIVE_SECONDS = 0.3
"""The longest that nothing may be audible in mid-speech."""

PATH_TAPS, PATH_LEAD = 96, 12
"""Of the learned filter (24 ms: the direct sound and early reflections), and those before the correlation's peak."""
FIRST_TAPS, FIRST_LEAD = 32, 8
"""The same of the first filter; with more of them, any 0.1 s of a voice could be made from any other."""
REGULARISATION = 5e-4
"""Of the least squares, relative to the emitted power: a vowel shows what the path does to few frequencies."""
FIRST_SHARE = 0.7
"""What the first filter must explain. Of two voices that speak at once it explains 0.15 (median) to 0.45 (95 %)."""
CONFIRMED = 0.3
"""What it must explain of what was heard before the window it was made of."""
MOVED_SECONDS = 0.3
"""Except where a known path explained that, not longer ago: the far end's jitter buffer may have changed its delay."""
EVIDENCE = 0.2
"""How loud, of the window's power, something must be for that."""
CHANGED_SHARE = 0.85
"""The same where it begins at the known path, which has failed: mostly because a caller speaks over his echo."""
MATURE_SECONDS = 0.5
"""A path learned from less knows few of the voice's sounds, and is replaced more readily."""
AGAIN_SHARE = 0.5
"""What the first filter must explain where it begins at such a path: to begin there twice is hardly chance."""
LOUDEST = 2.0
"""The most that a path may return (power; 3 dB): what is louder only happens to resemble the noise of our pauses."""
LOUDER = 10.0
"""How much more power a new path may return than just came back: a path rarely opens while we speak."""
MEMORY = 1.5
"""Seconds of echo (time constant) that the path is learned from."""
FIRST_LEFT = 0.08
"""What a path is assumed to leave of an echo until that has been seen."""
HOPELESS = 0.3
"""A path that leaves more than this of what it returns is none (5 dB)."""
TOLERANCE = 3.0
"""How much more than usual a path may leave."""
DECAY = 0.03
"""Seconds in which reverberation falls to 1/e of its power: a room of 0.4 s reverberation time."""

Signal = NDArray[np.float32]


class Echo(NamedTuple):
    """What was found in a window of what was heard.

    `share`: of its energy above the line's noise, 0 to 1, for which our own voice accounts. `delay`: seconds by the
    clock between emission and return on this line; NaN while no path is known. `level_db`: of the window below 2 kHz,
    dB below full scale.
    """

    share: float
    delay: float
    level_db: float

    @property
    def is_echo(self) -> bool:
        """True where nobody is heard but ourselves."""
        return self.share >= ECHO_SHARE


NOTHING = Echo(0.0, math.nan, -math.inf)


class OwnVoice:
    """Both directions of one call, and what is known of the echo on its line.

    Rates are multiples of 8 kHz.
    """

    def __init__(self) -> None:
        self._spoken = _Direction()
        self._heard = _Direction()
        self._path: _Path | None = None
        self._last = NOTHING
        self._judged = -math.inf

    @property
    def returns(self) -> bool:
        """Whether this line is known to return our voice."""
        return self._path is not None

    def spoken(self, frame: Frame, at: float) -> None:
        """Keeps a frame of ours, which was emitted at clock time `at`; silence is emitted too."""
        self._spoken.keep(frame, at)

    def heard(self, frame: Frame, at: float) -> None:
        """Keeps the next frame of the far end, which was heard at clock time `at`."""
        self._heard.keep(frame, at)

    def echo(self, seconds: float) -> Echo:
        """Judges the last `seconds` heard, within `SHORTEST` to `LONGEST`; to be asked each 20 to 100 ms of speech.

        What it finds to be echo it learns from. Where nothing is audible below 2 kHz, as in fricatives, it repeats what
        it found last, unless that is long ago.
        """
        if not self._spoken.frames or not self._heard.frames:
            return NOTHING
        view = _view(self._spoken, self._heard, round(min(max(seconds, SHORTEST), LONGEST) * RATE))
        audible = view.energy > AUDIBLE * view.noise
        if not audible and view.end - self._judged <= FRICATIVE_SECONDS:
            return self._last
        share = self._share(view) if audible else 0.0
        delay = math.nan if self._path is None else self._path.delay(view)
        self._last, self._judged = Echo(share, delay, view.level_db), view.end
        return self._last

    def _share(self, view: _View) -> float:
        if self._path is not None and self._path.hopeless:
            self._path = None
        share = 0.0 if self._path is None else self._path.judge(view)
        if share >= ECHO_SHARE:
            return share
        path, explained = _find(view, self._path)
        if path is None:
            return max(share, explained)
        self._path = path
        return path.judge(view)


@dataclass(frozen=True, slots=True)
class _View:
    """A window at the end of what was `heard`, and what was `emitted` around it.

    `end`: media time of the window's end. `now`: index into `emitted` of what left at that media time. `offset`:
    samples from a difference of media times to one of clock times. `energy`: of the window; `noise`: the line's in it.
    """

    heard: Signal
    window: Signal
    emitted: Signal
    end: float
    now: int
    offset: float
    energy: float
    noise: float

    @property
    def level_db(self) -> float:
        return 10 * math.log10(self.energy / len(self.window)) - 20 * math.log10(32768)

    def delayed(self, lag: int, before: int = 0) -> Signal:
        """What left `lag` samples of media time before the window, and the `before` samples before that."""
        end = self.now - lag
        return _stretch(self.emitted, end - len(self.window) - before, end)

    def rows(self, lag: int, taps: int) -> Signal:
        """Shape (samples of the window, taps): what a filter weighs that begins at `lag`."""
        return np.ascontiguousarray(sliding_window_view(self.delayed(lag, taps - 1), taps)[:, ::-1])

    def explained(self, left: Signal, usual: float = 0.0) -> float:
        """The share that is explained of the window's end where `left` is what is left of it.

        `usual`: energy that always is, in a whole window.
        """
        part = len(left) / len(self.window)
        energy = _energy(self.window[-len(left) :]) + len(left)
        noise = min(self.noise * part, energy / 2)
        unexplained = max(0.0, _energy(left) - noise - usual * part)
        return max(0.0, 1 - unexplained / (energy - noise))

    def counts(self, heard: Signal) -> bool:
        """Whether `heard` is loud enough beside the window to tell something."""
        return _energy(heard) > EVIDENCE * self.energy * len(heard) / len(self.window)


@dataclass(slots=True)
class _Path:
    """A path that is being learned; its filter begins `lag` samples of media time after emission.

    `taps` solve `power` @ taps = `cross`, sums over the echo of the last seconds, as `left` and `reverberant` are: the
    energy that the filter left, and that of an echo by reverberation alone. `until`: media time, `seconds` of echo.
    """

    lag: int
    taps: Signal
    left: float
    reverberant: float
    power: Signal = field(default_factory=lambda: np.zeros((PATH_TAPS, PATH_TAPS), np.float32))
    cross: Signal = field(default_factory=lambda: np.zeros(PATH_TAPS, np.float32))
    until: float = -math.inf
    seconds: float = 0.0

    @property
    def hopeless(self) -> bool:
        """True of one that was made of a caller: it leaves as much as it explains."""
        return self.left > HOPELESS * _energy(self.taps) * self.reverberant

    def delay(self, view: _View) -> float:
        return (self.lag + int(np.argmax(np.abs(self.taps))) + view.offset) / RATE

    def judge(self, view: _View) -> float:
        """The share of the window that it explains; it learns from what is echo."""
        rows = view.rows(self.lag, PATH_TAPS)
        left = view.window - rows @ self.taps
        reverberant = _reverberant(view, self.lag)
        usual = TOLERANCE * self.left / self.reverberant * reverberant
        share = view.explained(left, usual)
        new = min(len(rows), round((view.end - max(self.until, 0.0)) * RATE))
        if self.seconds < MATURE_SECONDS and 0 < new < len(rows) and view.counts(view.window[-new:]):
            # It was made of the rest of the window, which it would explain if that were no echo, too.
            share = min(share, view.explained(left[-new:], usual))
        if share >= ECHO_SHARE and new > 0:
            part = new / len(rows)
            self._learn(
                rows[-new:], view.window[-new:], max(0.0, _energy(left) - view.noise) * part, reverberant * part
            )
            self.until = view.end
        return share

    def _learn(self, rows: Signal, heard: Signal, left: float, reverberant: float) -> None:
        seconds = len(rows) / RATE
        fading = math.exp(-seconds / MEMORY)
        self.power = self.power * np.float32(fading) + rows.T @ rows
        self.cross = self.cross * np.float32(fading) + heard @ rows
        self.left = self.left * fading + left
        self.reverberant = self.reverberant * fading + reverberant
        self.taps = _least_squares(self.power, self.cross)
        self.seconds += seconds


def _find(view: _View, known: _Path | None) -> tuple[_Path | None, float]:
    """A path that explains the window, if there is one, and the share that its best candidate explains."""
    earliest, latest = round(-EARLY * RATE - view.offset), round(MAX_DELAY * RATE - view.offset)
    emitted = view.delayed(earliest, latest - earliest)
    if not np.any(emitted):
        return None, 0.0
    size = _transform_size(len(emitted))
    spectrum = np.fft.rfft(emitted, size)
    loudness = np.abs(spectrum)
    # Half whitened: the peak is as sharp as a voice allows, and what is only noise does not decide.
    whitened = spectrum / (loudness + 0.01 * loudness.mean())
    cross = np.fft.irfft(whitened * np.conj(np.fft.rfft(view.window, size)), size)
    lag = latest - int(np.argmax(np.abs(cross[: latest - earliest + 1])))
    rows = view.rows(lag - FIRST_LEAD, FIRST_TAPS)
    taps = _least_squares(rows.T @ rows, view.window @ rows)
    echo = rows @ taps
    direct = _energy(rows[:, FIRST_LEAD])
    if _energy(echo) > min(LOUDEST, LOUDER * _gain_before(view, lag, direct / len(rows))) * direct:
        return None, 0.0
    share = view.explained(view.window - echo)
    mature = known if known is not None and known.seconds >= MATURE_SECONDS else None
    needed = FIRST_SHARE
    if known is not None and 0 <= lag - known.lag < PATH_TAPS // 2:
        needed = AGAIN_SHARE if mature is None else CHANGED_SHARE
    if share < needed:
        return None, min(share, FIRST_SHARE)
    moved = mature is not None and view.end - mature.until < MOVED_SECONDS
    if not moved and _contradicted(view, lag - FIRST_LEAD, taps):
        return None, 0.0
    begin = lag - PATH_LEAD
    rows = view.rows(begin, PATH_TAPS)
    taps = _least_squares(rows.T @ rows, view.window @ rows)
    return _Path(begin, taps, FIRST_LEFT * view.energy, _reverberant(view, begin)), share


def _contradicted(view: _View, lag: int, taps: Signal) -> bool:
    """Whether `taps`, which begin at `lag`, explain nothing of what was heard just before the window."""
    count = len(view.window)
    heard = view.heard[-2 * count : -count]
    if len(heard) < count or not view.counts(heard):
        return False
    end = view.now - lag - count
    left = heard - np.convolve(_stretch(view.emitted, end - count - len(taps) + 1, end), taps, "valid")
    return _energy(left) - view.noise > (1 - CONFIRMED) * _energy(heard)


def _gain_before(view: _View, lag: int, power: float) -> float:
    """Gain (power) of the line before the window.

    Of what left `lag` samples earlier as loud as `power`, or nearly; infinite where nothing did.
    """
    size = 4 * BLOCK
    before = len(view.heard) - len(view.window) - BLOCK
    blocks = before // size
    if blocks < 1:
        return math.inf
    end = view.now - lag - len(view.window) - BLOCK
    emitted = _energies(_stretch(view.emitted, end - blocks * size, end), size)
    heard = _energies(view.heard[before - blocks * size : before], size)
    loud = emitted > 0.1 * power * size
    # Not the mean: the caller may have begun to speak, or an echo may have begun to come.
    return float(np.quantile(heard[loud] / emitted[loud], 0.25)) if np.any(loud) else math.inf


def _reverberant(view: _View, lag: int) -> float:
    """Energy in the window of an echo of unit gain that begins at `lag` and decays as reverberation does."""
    weights = _decay(len(view.window))
    emitted = view.delayed(lag, len(weights) - len(view.window))
    return float((emitted * emitted) @ weights) + 1.0


@lru_cache(maxsize=64)
def _decay(count: int) -> Signal:
    """What of the power of each sample falls into a window that is the last `count` of them."""
    to_end = np.arange(count + round(5 * DECAY * RATE), 0, -1) / (DECAY * RATE)
    to_begin = np.maximum(to_end - count / (DECAY * RATE), 0)
    return (np.exp(-to_begin) - np.exp(-to_end)).astype(np.float32)


def _least_squares(power: Signal, cross: Signal) -> Signal:
    regular = power.copy()
    regular.flat[:: len(cross) + 1] += REGULARISATION * np.trace(power) / len(cross) + 1
    return np.asarray(np.linalg.solve(regular, cross), np.float32)


def _view(spoken: _Direction, heard: _Direction, count: int) -> _View:
    emitted, received = spoken.signal(), heard.signal()
    window = received[-count:]
    quietest = float(np.min(_energies(received, BLOCK)))
    return _View(
        heard=received,
        window=window,
        emitted=emitted,
        end=heard.end,
        now=len(emitted) + round((heard.end - spoken.end) * RATE),
        offset=(heard.clock_offset() - spoken.clock_offset()) * RATE,
        energy=_energy(window) + len(window),
        noise=NOISE_BIAS * quietest * len(window) / BLOCK,
    )


class _Direction:
    """The newest frames of one direction, and their signal, which is made of them when it is asked for."""

    def __init__(self) -> None:
        self.frames: deque[tuple[Frame, float]] = deque(maxlen=KEPT_FRAMES)
        self._new = 0
        self._signal: Signal = np.empty(0, np.float32)

    def keep(self, frame: Frame, at: float) -> None:
        self.frames.append((frame, at))
        self._new += 1

    @property
    def end(self) -> float:
        """Media time."""
        return self.frames[-1][0].end

    def clock_offset(self) -> float:
        """Seconds from media time to clock time."""
        newest = (self.frames[-1 - index] for index in range(min(TIMED_FRAMES, len(self.frames))))
        offsets = sorted(at - frame.time for frame, at in newest)
        return offsets[len(offsets) // 2]

    def signal(self) -> Signal:
        """Shape (n,) at `RATE`, n a multiple of `BLOCK`: the kept frames, from the newest change of their rate on."""
        # The end of what was made before lacked the samples that came since, and what is made now needs some before it.
        count = self._new + 2
        if self._new and count <= len(self.frames) and len(self._signal) >= 2 * BLOCK:
            made = _decimated([self.frames[index - count][0] for index in range(count)])
            if len(made) == count * BLOCK:
                self._signal = np.concatenate((self._signal[:-BLOCK], made[BLOCK:]))[-KEPT_FRAMES * BLOCK :]
                self._new = 0
        if self._new:
            self._signal = _decimated([frame for frame, _ in self.frames])
            self._new = 0
        return self._signal


def _decimated(frames: Sequence[Frame]) -> Signal:
    """The frames that have the rate of the last, at `RATE`."""
    rate = frames[-1].rate
    samples = np.concatenate([frame.samples for frame in frames if frame.rate == rate])
    span, matrix = _decimator(rate // RATE)
    step = OUTPUTS * rate // RATE
    padded = np.zeros(len(samples) + 2 * span, np.float32)
    padded[span : span + len(samples)] = samples
    rows = sliding_window_view(padded, len(matrix))[::step]
    few = PRODUCT_SIZE // matrix.size
    return np.concatenate([rows[first : first + few] @ matrix for first in range(0, len(rows), few)]).reshape(-1)


@lru_cache(maxsize=8)
def _decimator(factor: int) -> tuple[int, Signal]:
    """A low-pass filter for every `factor`th sample: half its length, and the matrix that makes `OUTPUTS` at a time."""
    span = DECIMATOR_SPAN * factor
    positions = np.arange(-span, span + 1)
    taps = np.sinc(PASSBAND * positions / factor) * np.kaiser(len(positions), 5.0)
    taps /= taps.sum()
    matrix = np.zeros(((OUTPUTS - 1) * factor + len(taps), OUTPUTS), np.float32)
    for output in range(OUTPUTS):
        matrix[output * factor : output * factor + len(taps), output] = taps
    return span, matrix


def _stretch(samples: Signal, start: int, stop: int) -> Signal:
    """`samples[start:stop]` of a signal that is silent before its first and after its last sample."""
    inside = samples[max(start, 0) : max(stop, 0)]
    if len(inside) == stop - start:
        return inside
    padded = np.zeros(stop - start, np.float32)
    begin = max(-start, 0)
    padded[begin : begin + len(inside)] = inside
    return padded


def _transform_size(length: int) -> int:
    """The least 2^n or 5 * 2^n that is no less: such sizes are transformed fast."""
    power = 1 << (length - 1).bit_length()
    return power * 5 // 8 if power * 5 // 8 >= length else power


def _energy(samples: Signal) -> float:
    return float(samples @ samples)


def _energies(samples: Signal, size: int) -> Signal:
    """Of each `size` samples."""
    blocks = samples.reshape(-1, size)
    return np.asarray(np.einsum("ij,ij->i", blocks, blocks))
