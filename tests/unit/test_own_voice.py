"""The agent's own voice on its way back is known for what it is, and a caller never is it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import pytest
from numpy.typing import NDArray

from connector.audio import FRAME_SECONDS, Frame, Samples
from connector.turn.own_voice import Echo, OwnVoice
from tests.fakes.voices import mu_law, noise, tone

RATE = 8000
STEP = 0.032
"""Seconds from a window of the voice activity detection to the next."""
FULL_SCALE = 32768

Floats = NDArray[np.float64]


def voice(seed: int, pitch: float, seconds: float, level: float = -20.0) -> Floats:
    """What has the pitch, the formants, the consonants and the pauses of speech, at `level` dB below full scale.

    Syllables of 120 to 260 ms: hiss through a resonance, then pulses of a gliding pitch through three others.
    """
    draw = np.random.default_rng(seed)
    pieces: list[Floats] = []
    while sum(map(len, pieces)) < seconds * RATE:
        count = int(draw.uniform(0.12, 0.26) * RATE)
        glide = pitch * draw.uniform(0.85, 1.2) * np.linspace(1.0, draw.uniform(0.8, 1.2), count)
        pulses = np.diff(np.floor(np.cumsum(glide) / RATE), prepend=0.0) * 20 + draw.normal(0, 0.05, count)
        hiss = draw.normal(0, 0.6, int(draw.uniform(0.03, 0.08) * RATE))
        vowel = resonant(pulses, (draw.uniform(300, 800), draw.uniform(900, 2200), draw.uniform(2300, 3000)))
        pieces += [resonant(hiss, (draw.uniform(1500, 3400),)), vowel * np.hanning(count) ** 0.5]
        if draw.random() < 0.2:
            pieces.append(np.zeros(int(draw.uniform(0.05, 0.25) * RATE)))
    speech = np.concatenate(pieces)[: int(seconds * RATE)]
    sounding = speech[np.abs(speech) > 0.02 * np.abs(speech).max()]
    return np.asarray(speech * FULL_SCALE * 10 ** (level / 20) / np.sqrt(np.mean(sounding**2)))


def resonant(samples: Floats, formants: Sequence[float]) -> Floats:
    """The sum of `samples` through a resonance of 100 Hz bandwidth at each of `formants`, Hz."""
    time = np.arange(256) / RATE
    response = sum(np.exp(-np.pi * 100 * time) * np.sin(2 * np.pi * f * time) / (n + 1) for n, f in enumerate(formants))
    return np.convolve(samples, np.asarray(response))[: len(samples)]


def returned(agent: Samples, loss: float, delay: float, reverberation: float, line_noise: float) -> Samples:
    """`agent` after a loudspeaker that distorts, a room, the telephone band and mu-law twice.

    `loss`: dB; `delay`, `reverberation` (time to fall by 60 dB): seconds; `line_noise`: dB below full scale.
    """
    draw = np.random.default_rng(9)
    time = np.arange(int(reverberation * RATE)) / RATE
    room = draw.normal(0, 1, len(time)) * 10 ** (-3 * time / reverberation)
    room *= 0.7 / np.sqrt(np.sum(room**2))
    room[0] += 1.0
    sound = np.tanh(np.convolve(agent, room / np.sqrt(np.sum(room**2)))[: len(agent)] / FULL_SCALE * 2) / 2 * FULL_SCALE
    taps = np.arange(-32, 33) / RATE
    band = (6800 / RATE * np.sinc(6800 * taps) - 600 / RATE * np.sinc(600 * taps)) * np.hamming(65)
    late = np.concatenate([np.zeros(int(delay * RATE)), np.convolve(sound, band)[32 : 32 + len(sound)]])[: len(agent)]
    first = mu_law(late.astype(np.int16) if not loss else (late * 10 ** (-loss / 20)).astype(np.int16))
    return mu_law(first + noise(len(agent) / RATE, 10 ** (line_noise / 20)))


def samples(values: Floats) -> Samples:
    return mu_law(np.clip(np.rint(values), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16))


def quiet(seconds: float, level: float = -66.0) -> Samples:
    """Line noise."""
    return mu_law(noise(seconds, 10 ** (level / 20), seed=4))


class Call:
    """A call whose both directions are known, asked on as it goes."""

    def __init__(self, spoken: Samples, heard: Samples, rate: int = RATE, skew: float = 0.0) -> None:
        self.own_voice = OwnVoice()
        self.now = 0.0
        self._spoken, self._heard, self._rate, self._skew = spoken, heard, rate, skew
        self._draw = np.random.default_rng(2)

    def pass_until(self, time: float) -> None:
        """Lets frames of both directions pass; those of the far end come up to 15 ms late."""
        size = self._rate // 50
        while self.now + FRAME_SECONDS <= time + 1e-9:
            start = round(self.now / FRAME_SECONDS) * size
            at = self.now + FRAME_SECONDS + 100
            mine = Frame(self._spoken[start : start + size], self._rate, self.now)
            theirs = Frame(self._heard[start : start + size], self._rate, self.now + self._skew)
            self.own_voice.spoken(mine, at)
            self.own_voice.heard(theirs, at + self._draw.uniform(0, 0.015))
            self.now += FRAME_SECONDS

    def asked(self, since: float, until: float, window: float = 0.1, above: float = -50.0) -> list[tuple[float, Echo]]:
        """What it says at each step where something is heard (`above`: dB below full scale)."""
        answers = []
        for time in np.arange(since, until, STEP):
            self.pass_until(float(time))
            end = round(self.now * self._rate)
            if level(self._heard[max(0, end - self._rate // 25) : end]) > above:
                answers.append((self.now, self.own_voice.echo(window)))
        return answers


def level(heard: Samples) -> float:
    return 10 * float(np.log10(np.mean(np.square(heard.astype(np.float64))) + 1e-3)) - 90.3


def longest_miss(answers: Sequence[tuple[float, Echo]]) -> int:
    """Consecutive windows that were not called echo."""
    return max(
        (len(list(run)) for is_echo, run in groupby(echo.is_echo for _, echo in answers) if not is_echo), default=0
    )


SECONDS = 4.0
AGENT = samples(voice(1, 190, SECONDS))
INTERRUPTION = 2.0


def interrupted(caller: Floats, echo: Samples) -> Samples:
    """`echo`, and `caller` from `INTERRUPTION` on."""
    heard = echo.astype(np.float64)
    begin = int(INTERRUPTION * RATE)
    heard[begin : begin + len(caller)] += caller[: len(heard) - begin]
    return samples(heard)


@pytest.mark.parametrize(
    ("loss", "delay", "reverberation", "line_noise"),
    [
        (15, 0.02, 0.05, -66),
        (15, 0.25, 0.2, -66),
        (20, 0.06, 0.1, -66),
        (25, 0.06, 0.2, -66),
        (30, 0.12, 0.05, -66),
        (15, 0.06, 0.1, -50),
        (20, 0.12, 0.2, -50),
    ],
)
def test_an_echo_is_called_one(loss: float, delay: float, reverberation: float, line_noise: float) -> None:
    """After 0.1 s of it: windows of 0.1 s with few exceptions, and never for as long as an interruption takes."""
    above = max(line_noise + 6.0, -20.0 - loss - 15)
    call = Call(AGENT, returned(AGENT, loss, delay, reverberation, line_noise))
    answers = call.asked(0.1, SECONDS, above=above)
    judged = [answer for answer in answers if answer[0] >= answers[0][0] + 0.1]
    assert len(judged) > 10
    assert np.mean([echo.is_echo for _, echo in judged]) >= 0.97
    assert longest_miss(judged) < 5
    assert judged[-1][1].delay == pytest.approx(delay + 0.0075, abs=0.009)


@pytest.mark.parametrize(("loss", "loudness"), [(None, -20), (None, -30), (15, -20), (25, -20), (25, -30)])
def test_a_caller_is_heard_within_a_tenth_of_a_second(loss: float | None, loudness: float) -> None:
    """With and without an echo under him."""
    for seed in range(5):
        call = call_with_caller(seed, loss, loudness)
        for late in (0.1, 0.16):
            call.pass_until(INTERRUPTION + late)
            assert not call.own_voice.echo(0.1).is_echo, f"caller {seed} after {late} s"


def test_a_caller_no_louder_than_the_echo_is_heard_a_little_later() -> None:
    """As soon as he is louder for a moment."""
    for seed in range(5):
        call = call_with_caller(seed, 15, -30)
        assert longest_miss(call.asked(INTERRUPTION + 0.1, INTERRUPTION + 0.3)) >= 2, f"caller {seed}"


def call_with_caller(seed: int, loss: float | None, loudness: float) -> Call:
    """A call that was asked until a caller interrupts."""
    echo = quiet(SECONDS) if loss is None else returned(AGENT, loss, 0.12, 0.1, -66)
    caller = voice(20 + seed, 110, 0.5, loudness)
    caller = caller[np.argmax(np.abs(caller) > 0.1 * np.abs(caller).max()) :]
    call = Call(AGENT, interrupted(caller, echo))
    if loss is not None:
        call.asked(0.1, INTERRUPTION)
    return call


def test_he_is_heard_when_he_speaks_first_or_last_too() -> None:
    """Before the agent has said anything, and after it has stopped."""
    silence = np.zeros_like(AGENT)
    caller = samples(voice(30, 120, SECONDS))
    assert not any(echo.is_echo for _, echo in Call(silence, caller).asked(0.1, SECONDS))
    stopped = AGENT.copy()
    stopped[2 * RATE :] = 0
    heard = returned(stopped, 20, 0.06, 0.1, -66).astype(np.float64)
    heard[int(2.4 * RATE) :] += voice(31, 120, 4)[: len(heard) - int(2.4 * RATE)]
    call = Call(stopped, samples(heard))
    assert call.asked(0.5, 2.0)[-1][1].is_echo
    assert not any(echo.is_echo for _, echo in call.asked(2.5, SECONDS))


@pytest.mark.parametrize("known", [False, True], ids=["first", "after an echo"])
@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(tone((697, 1209), 1.0), id="key"),
        pytest.param(tone((425,), 1.0), id="tone"),
        pytest.param(noise(1.0, 0.02, seed=7), id="hiss"),
        pytest.param((noise(0.3, 0.2, seed=8) * np.exp(-np.arange(2400) / 600)).astype(np.int16), id="cough"),
    ],
)
def test_other_sounds_are_no_echo(sound: Samples, known: bool) -> None:
    echo = returned(AGENT, 25, 0.06, 0.1, -66) if known else quiet(SECONDS)
    call = Call(AGENT, interrupted(sound.astype(np.float64), echo))
    if known:
        call.asked(0.1, INTERRUPTION)
    call.pass_until(INTERRUPTION + 0.04)
    answers = call.asked(INTERRUPTION + 0.1, INTERRUPTION + len(sound) / RATE - 0.1)
    assert answers
    assert not any(answer.is_echo for _, answer in answers)


@pytest.mark.parametrize("line_noise", [-66, -45])
def test_line_noise_is_no_echo(line_noise: float) -> None:
    """Nor is it one after an echo has ended."""
    hiss = quiet(SECONDS, line_noise)
    assert not any(echo.is_echo for _, echo in Call(AGENT, hiss).asked(0.1, SECONDS, above=-90))
    stopped = AGENT.copy()
    stopped[2 * RATE :] = 0
    call = Call(stopped, returned(stopped, 15, 0.06, 0.1, line_noise))
    assert call.asked(0.5, 2.0)[-1][1].is_echo
    assert not any(echo.is_echo for _, echo in call.asked(2.6, SECONDS, above=-90))


def test_a_known_line_is_known_at_once() -> None:
    """The second reply's echo is judged by its first 60 ms."""
    agent = AGENT.copy()
    agent[2 * RATE : 3 * RATE] = 0
    call = Call(agent, returned(agent, 25, 0.12, 0.1, -66))
    call.asked(0.1, 2.5)
    second = call.asked(3.0 + 0.12 + 0.06, 3.5, window=0.06)
    assert all(echo.is_echo for _, echo in second)


def test_an_echo_that_moves_is_found_again() -> None:
    """A jitter buffer grew by 40 ms; the word or two until then are shorter than an interruption."""
    echo = returned(AGENT, 15, 0.06, 0.1, -66)
    moved = echo.copy()
    moved[2 * RATE :] = echo[2 * RATE - 320 : -320]
    call = Call(AGENT, moved)
    call.asked(0.1, 2.0)
    answers = call.asked(2.0, SECONDS)
    assert longest_miss(answers) < 5
    assert answers[-1][1].delay == pytest.approx(0.06 + 0.04 + 0.0075, abs=0.009)


@pytest.mark.parametrize("rate", [16000, 48000])
def test_rates_of_other_codecs(rate: int) -> None:
    factor = rate // RATE
    echo = returned(AGENT, 20, 0.06, 0.1, -66)
    call = Call(np.repeat(AGENT, factor), np.repeat(echo, factor), rate)
    answers = call.asked(0.5, SECONDS)
    assert np.mean([answer.is_echo for _, answer in answers]) >= 0.97
    caller = samples(voice(40, 110, SECONDS))
    call = Call(np.repeat(AGENT, factor), np.repeat(caller, factor), rate)
    assert not any(answer.is_echo for _, answer in call.asked(0.5, SECONDS))


def test_media_times_need_not_agree() -> None:
    """The far end's stream began when ours had been running for a while."""
    call = Call(AGENT, returned(AGENT, 20, 0.12, 0.1, -66), skew=-37.42)
    answers = call.asked(0.5, SECONDS)
    assert np.mean([answer.is_echo for _, answer in answers]) >= 0.97
    assert answers[-1][1].delay == pytest.approx(0.1275, abs=0.009)


def test_how_loud_the_window_was() -> None:
    call = Call(AGENT, samples(voice(50, 120, SECONDS, -30)))
    levels = [echo.level_db for _, echo in call.asked(0.2, SECONDS, above=-45)]
    assert np.percentile(levels, 75) == pytest.approx(-30, abs=4)


def test_nothing_is_known_of_a_call_that_has_just_begun() -> None:
    own_voice = OwnVoice()
    assert not own_voice.echo(0.1).is_echo
    own_voice.heard(Frame(np.zeros(160, np.int16), RATE, 0.0), 0.02)
    assert not own_voice.echo(0.1).is_echo
    own_voice.spoken(Frame(np.zeros(160, np.int16), RATE, 0.0), 0.02)
    assert not own_voice.echo(0.1).is_echo
