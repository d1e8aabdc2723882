"""Latency from the wire: edges by energy, and parts that add up to the silence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.audio import Audio, Frame
from connector.interfaces import TurnTiming
from connector.record import WireLatency, WireTurn, latency
from tests.fakes.engines import silence, tone

RATE = 8000


def frames(audio: Audio, begin: float) -> list[tuple[Frame, float]]:
    """`audio` as 20 ms frames with their times on the wire."""
    padded = np.concatenate([audio.samples, np.zeros(-len(audio.samples) % 160, np.int16)])
    return [
        (Frame(samples, RATE, number * 0.02), begin + number * 0.02)
        for number, samples in enumerate(padded.reshape(-1, 160))
    ]


def said(*parts: Audio, noise: float = 0.0) -> Audio:
    samples = np.concatenate([part.samples for part in parts]).astype(np.float64)
    samples += np.random.default_rng(1).standard_normal(len(samples)) * noise * 32768
    return Audio(samples.astype(np.int16), RATE)


def speak(wire: WireLatency, audio: Audio, begin: float) -> None:
    for frame, at in frames(audio, begin):
        wire.received(frame, at)


def answer(wire: WireLatency, audio: Audio, begin: float) -> None:
    for frame, at in frames(audio, begin):
        wire.emitted(frame, at)


TURN = TurnTiming(speech_end=12.1, decided=12.6, transcribed=12.7, first_token=12.85, first_audio=13.0)


@pytest.mark.parametrize("noise", [0.0, 10 ** (-66 / 20), 10 ** (-45 / 20)], ids=["clean", "-66 dBFS", "-45 dBFS"])
def test_edges_are_found_to_within_a_hop(noise: float) -> None:
    """On a clean line, with the floor of a phone line, and with a noise that is louder than -32 dB."""
    wire = WireLatency()
    speak(wire, said(silence(1.0), tone(300, 1.0637), silence(1.2), noise=noise), 10.0)
    answer(wire, said(silence(0.0921), tone(440, 1.0)), 13.0)
    turn = wire.turn(TURN)
    assert turn.caller_start == pytest.approx(11.0, abs=0.0051)
    assert turn.caller_end == pytest.approx(12.0637, abs=0.0051)
    assert turn.agent_start == pytest.approx(13.0921, abs=0.0051)
    assert turn.agent_end == pytest.approx(14.0921, abs=0.0051)


def test_a_quiet_end_of_speech_is_still_speech() -> None:
    """Final consonants are 20 to 30 dB below the vowels."""
    wire = WireLatency()
    speak(wire, said(tone(300, 1.0), tone(300, 0.1, peak=300), silence(1.0)), 11.0)
    assert wire.turn(TURN).caller_end == pytest.approx(12.1, abs=0.005)


def test_silence_is_what_lies_between_both_voices() -> None:
    wire = WireLatency()
    speak(wire, said(tone(300, 1.0), silence(1.0)), 11.0)
    answer(wire, said(silence(0.05), tone(440, 1.0)), 13.0)
    measured = latency(TURN, wire.turn(TURN))
    assert measured.silence_ms == 1050
    assert measured.parts_ms.model_dump() == {"end_of_turn": 600, "stt": 100, "llm": 150, "tts": 150, "playout": 50}


def test_the_pause_inside_an_utterance_is_part_of_it() -> None:
    wire = WireLatency()
    speak(wire, said(tone(300, 0.5), silence(0.4), tone(300, 0.5), silence(1.0)), 10.6)
    turn = wire.turn(TURN)
    assert turn.caller_start == pytest.approx(10.6, abs=0.005)
    assert turn.caller_end == pytest.approx(12.0, abs=0.005)


def test_speech_of_an_earlier_turn_does_not_count() -> None:
    wire = WireLatency()
    speak(wire, said(tone(300, 1.0), silence(1.0)), 0.0)
    wire.turn(TurnTiming(speech_end=1.0, decided=1.6, first_audio=1.8))
    speak(wire, said(silence(9.0), tone(300, 1.0), silence(1.0)), 2.0)
    assert wire.turn(TURN).caller_start == pytest.approx(11.0, abs=0.005)


def test_a_greeting_answers_nobody() -> None:
    wire = WireLatency()
    speak(wire, said(tone(300, 1.0), silence(1.0)), 11.0)
    answer(wire, said(tone(440, 1.0)), 13.0)
    timing = TurnTiming(decided=12.6, first_audio=13.0)
    measured = latency(timing, wire.turn(timing))
    assert measured.silence_ms is None
    assert measured.parts_ms.tts == 400


def test_a_voice_too_faint_to_hear_is_none() -> None:
    wire = WireLatency()
    speak(wire, said(tone(300, 1.0, peak=20), silence(1.0)), 11.0)
    turn = wire.turn(TURN)
    assert (turn.caller_end, turn.agent_start) == (None, None)


def test_an_hour_of_monologue_stays_small() -> None:
    wire = WireLatency()
    hop = Frame(tone(300, 0.02).samples, RATE, 0.0)
    for number in range(30_000):
        wire.received(hop, number * 0.02)
    turn = wire.turn(TurnTiming(speech_end=599.0, decided=600.0))
    assert turn.caller_start == pytest.approx(300.0, abs=0.02)


instants = st.one_of(st.none(), st.floats(0, 1e6, allow_nan=False))


@given(instants, instants, instants, instants, st.floats(0, 1e6), st.floats(0, 1e6))
def test_parts_add_up_exactly_whatever_happened(
    decided: float | None,
    transcribed: float | None,
    first_token: float | None,
    first_audio: float | None,
    caller_end: float,
    agent_start: float,
) -> None:
    """Summed metrics that do not equal the silence heard are the field's old complaint."""
    timing = TurnTiming(0.0, decided, transcribed, first_token, first_audio)
    measured = latency(timing, WireTurn(None, caller_end, agent_start, None))
    assert measured.silence_ms == measured.parts_ms.total
