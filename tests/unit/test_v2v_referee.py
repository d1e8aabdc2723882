"""The referee of bench/v2v: what it takes for an answer, a cut-off, an interruption."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest

from bench.v2v.clips import Clip, Part
from bench.v2v.engines import wav_seconds
from bench.v2v.figures import Call, pacing, summary
from bench.v2v.phone import Packet, Said, tone_of
from bench.v2v.scripts import Event, Exchange, Interruption, interrupted, judge
from tests.fakes.engines import tone

CLIP = Clip("q", [Part("I want to book,", 0.1, 1.0), Part("a table on Friday.", 1.35, 2.0)], [])
SAID = Said(start=10.0, end=12.0)
TONE, FILLER = 500, 900
ANSWER: list[Event] = [
    (12.5, "stt_req", {"seconds": 2.0}),
    (12.62, "stt_res", {"text": "i want to book a table on friday"}),
    (12.63, "llm_req", {"user": "I want to book a table on Friday."}),
    (12.78, "llm_first", {}),
    (12.88, "llm_sent1", {}),
    (12.9, "tts_req", {"hz": TONE}),
    (13.05, "tts_first", {}),
]


def packets(start: float, count: int, hertz: int = TONE) -> list[Packet]:
    return [Packet(start + 0.02 * index, 0.02, True, hertz) for index in range(count)]


def test_an_answer_is_timed_from_the_end_of_speech() -> None:
    exchange = judge(CLIP, SAID, packets(13.1, 50), ANSWER)
    assert exchange.valid
    assert exchange.v2v == pytest.approx(1100)
    assert exchange.chain["stt_req"] == pytest.approx(500)
    assert exchange.chain["tts_first"] == pytest.approx(1050)
    assert (exchange.early, exchange.questions, exchange.fillers) == (False, 1, 0)


def test_a_filler_is_no_answer() -> None:
    exchange = judge(CLIP, SAID, packets(12.3, 10, FILLER) + packets(13.1, 10), ANSWER)
    assert (exchange.v2v, exchange.fillers) == (pytest.approx(1100), 10)


def test_a_voice_within_the_utterance_is_a_cut_off_and_no_latency() -> None:
    exchange = judge(CLIP, SAID, packets(11.5, 3) + packets(13.1, 10), ANSWER)
    assert exchange.cut
    assert not exchange.valid


def test_an_answer_to_the_first_half_is_stale() -> None:
    half = [
        (at, kind, details | {"user": "I want to book"} if kind == "llm_req" else details)
        for at, kind, details in ANSWER
    ]
    exchange = judge(CLIP, SAID, packets(13.1, 10), half)
    assert exchange.stale
    assert not exchange.valid


def test_silence_is_no_answer() -> None:
    assert judge(CLIP, SAID, [], []).v2v is None


def test_an_interruption_is_timed_to_the_last_packet_before_the_next_answer() -> None:
    heard = packets(9.0, 55) + packets(11.0, 50)
    stopped = interrupted(SAID, heard, 0, 12.1)
    assert stopped.wire == pytest.approx(80)
    assert stopped.played == pytest.approx(100)


def test_an_agent_that_goes_on_was_not_stopped() -> None:
    assert interrupted(SAID, packets(9.0, 300), 0, 12.1) == Interruption(None, None)


def test_pacing_knows_no_gaps_between_talk_bursts() -> None:
    heard = packets(1.0, 3) + packets(3.0, 3)
    late = [*heard[:1], Packet(heard[1].at + 0.005, 0.02, True, TONE), *heard[2:]]
    assert pacing(late) == pytest.approx([5.0, 5.0, 0.0, 0.0], abs=1e-6)


def test_a_tone_is_told_from_speech() -> None:
    assert tone_of(tone(650, 0.02).samples) == 650
    assert tone_of(np.random.default_rng(1).normal(0, 3000, 160).astype(np.int16)) == 0


def test_the_duration_of_a_wav_in_a_form() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 16000, 0, "NONE", ""))
        writer.writeframes(bytes(2 * 16000))
    assert wav_seconds(b"--x\r\n\r\n" + file.getvalue() + b"\r\n--x--\r\n") == pytest.approx(1.0)
    assert wav_seconds(b"no audio") is None


def test_the_summary_leaves_out_what_is_not_valid() -> None:
    good = Exchange("a", False, 1000.0, False, False, False, 1, 0)
    cut = Exchange("b", True, 200.0, True, False, True, 2, 0)
    call = Call("turns", 0.35, 60.0, 3.0, 100.0, [0.5, 1.5], 1.0, [good, cut], [])
    figures = summary("system", [call])
    assert (figures["valid"], figures["turns"], figures["v2v_p50"], figures["cutoffs"]) == (1, 2, 1000, 1)
    assert figures["cpu_seconds_per_minute"] == 3.0
    assert figures["barge_wire_p50"] is None
