"""Latency from the wire: edges by energy, and parts that add up to the silence."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.audio import Audio, Frame
from connector.interfaces import TurnTiming
from connector.record import Latency, WireLatency, WireTurn, latency, percentiles
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


def parts(measured: Latency) -> dict[str, int]:
    """Those that there are."""
    return measured.parts_ms.model_dump(exclude_none=True)


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
    assert measured.decided_ms == 600
    assert parts(measured) == {"end_of_turn": 600, "stt": 100, "llm": 150, "tts": 150, "playout": 50}


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


HEARD = WireTurn(caller_start=9.0, caller_end=10.0, agent_start=10.54, agent_end=12.0)


def test_an_answer_that_was_ready_waited_for_the_decision() -> None:
    """What a faster engine would bring is nothing, what a quicker decision would bring is `held`."""
    timing = TurnTiming(
        speech_end=10.0,
        recognition=10.06,
        transcribed=10.1,
        hint=10.12,
        first_token=10.25,
        first_sentence=10.3,
        first_audio=10.42,
        decided=10.5,
        released=10.5,
    )
    measured = latency(timing, HEARD)
    assert (measured.silence_ms, measured.decided_ms) == (540, 500)
    assert parts(measured) == {
        "end_of_turn": 60 + 20,
        "stt": 40,
        "llm": 130,
        "sentence": 50,
        "tts": 120,
        "held": 80,
        "playout": 40,
    }


def test_an_answer_that_was_still_being_made_when_the_turn_was_taken_waited_for_nobody() -> None:
    """The silence that decided did not make it later: what a quicker decision would bring is nothing."""
    timing = TurnTiming(hint=10.1, first_token=10.3, first_audio=10.52, decided=10.2, released=10.2)
    measured = latency(timing, HEARD)
    assert measured.decided_ms == 200
    assert parts(measured) == {"end_of_turn": 100, "llm": 200, "tts": 220, "held": 0, "playout": 20}


def test_words_that_were_known_before_the_end_cost_nothing() -> None:
    timing = TurnTiming(transcribed=10.1, decided=10.3, first_token=10.4, first_audio=10.5, released=10.3)
    assert parts(latency(timing, HEARD)) == {"end_of_turn": 300, "stt": 0, "llm": 100, "tts": 100, "playout": 40}


def test_an_agent_that_speaks_into_the_end_of_the_caller_leaves_no_silence() -> None:
    measured = latency(TURN, WireTurn(caller_start=11.0, caller_end=13.05, agent_start=13.0, agent_end=14.0))
    assert (measured.silence_ms, measured.parts_ms.total) == (0, 0)


def test_the_voice_is_looked_for_from_when_it_was_let_go() -> None:
    """What was still to hear of the reply before is not taken for the one that was held."""
    wire = WireLatency()
    answer(wire, said(tone(440, 0.5), silence(0.5), tone(440, 0.5)), 12.0)
    timing = TurnTiming(hint=12.1, first_audio=12.2, decided=12.6, released=12.6)
    assert wire.turn(timing).agent_start == pytest.approx(13.0, abs=0.005)


def test_percentiles_are_of_what_there_is() -> None:
    assert percentiles([None, 100, 200, None, 300]) == (200, 290)
    assert percentiles([500]) == (500, 500)
    assert percentiles([None]) == (None, None)


instants = st.one_of(st.none(), st.floats(0, 1e6, allow_nan=False))


@given(
    st.builds(TurnTiming, **dict.fromkeys((field.name for field in fields(TurnTiming)), instants)),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
)
def test_parts_are_never_negative_and_add_up_exactly_whatever_happened(
    timing: TurnTiming, caller_end: float, agent_start: float
) -> None:
    """Summed metrics that do not equal the silence heard are the field's old complaint."""
    measured = latency(timing, WireTurn(None, caller_end, agent_start, None))
    assert measured.silence_ms == measured.parts_ms.total
    assert all(part >= 0 for part in parts(measured).values())


@given(st.lists(st.floats(0, 2), min_size=9, max_size=9).map(sorted))
def test_steps_in_their_order_each_take_their_own_time(instants: list[float]) -> None:
    names = ("recognition", "transcribed", "hint", "first_token", "first_sentence", "first_audio", "released")
    timing = TurnTiming(**dict(zip(names, instants[1:], strict=False)))
    measured = parts(latency(timing, WireTurn(None, instants[0], instants[8], None)))
    _, asked, words, hint, token, sentence, audio, released, heard = (round(at * 1000) for at in instants)
    assert measured["stt"] == words - asked
    assert measured["llm"] == token - hint
    assert measured["sentence"] == sentence - token
    assert measured["tts"] == audio - sentence
    assert measured["held"] == released - audio
    assert measured["playout"] == heard - released
