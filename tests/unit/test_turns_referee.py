"""The referee of bench/turns: what it takes for an answer, a cut-off, an interruption, and for good manners."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest

from bench.turns.clips import FRAME, RATE, Clip, Part
from bench.turns.echo import Echo, EchoPath
from bench.turns.engines import wav_seconds
from bench.turns.figures import Call, pacing, summary
from bench.turns.limits import judged, missed, table
from bench.turns.manners import (
    TEXT,
    judge_backchannel,
    judge_echo,
    judge_interruption,
    words_of,
    words_said,
)
from bench.turns.noises import NOISES, noises
from bench.turns.phone import Packet, Said, tone_of
from bench.turns.scripts import SLOW_PACE, BargeIn, Event, Exchange, interrupted, judge
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
    assert interrupted(SAID, packets(9.0, 300), 0, 12.1) == BargeIn(None, None)


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


def test_a_buffer_that_was_emptied_plays_no_more() -> None:
    """A far end with a buffer hears what was sent ahead, unless the agent takes it back."""
    ahead = [Packet(9.0, 0.5, True, TONE), Packet(9.01, 2.0, True, TONE)]
    assert interrupted(SAID, ahead, 0, 12.1).played == pytest.approx(1500)
    assert interrupted(SAID, ahead, 0, 12.1, cleared=[10.2]).played == pytest.approx(200)


# ----------------------------------------------------------------------------------------------- manners

ECHO = Echo(-20.0, 0.1, room=False)
REPLY: list[Event] = [
    (9.0, "llm_req", {"user": "hello", "messages": [("user", "hello")]}),
    (9.2, "tts_req", {"hz": TONE, "text": "Sure, I can check that for you.", "seconds": 2.0}),
]


def test_a_reply_that_was_heard_in_full_was_not_disturbed() -> None:
    assert not judge_echo(ECHO, 10.0, packets(10.0, 100), REPLY).disturbed


@pytest.mark.parametrize(
    ("heard", "more"),
    [
        (packets(10.0, 40) + packets(11.1, 60), []),
        (packets(10.0, 40), []),
        (packets(10.0, 100), [(10.5, "llm_req", {"user": "sure", "messages": []})]),
    ],
    ids=["stopped and went on", "stopped", "asked"],
)
def test_an_echo_disturbs(heard: list[Packet], more: list[Event]) -> None:
    assert judge_echo(ECHO, 10.0, heard, REPLY + more).disturbed


def test_no_reply_is_no_success() -> None:
    assert judge_echo(ECHO, None, [], []).disturbed


@pytest.mark.parametrize("room", [False, True])
def test_an_echo_comes_back_late_and_softly(room: bool) -> None:
    path = EchoPath(Echo(-20.0, 0.05, room=room))
    voice = np.random.default_rng(1).normal(0, 8000, 50 * FRAME).astype(np.int16)
    back = []
    for start in range(0, len(voice), FRAME):
        path.play(voice[start : start + FRAME])
        back.append(path.frame())
    heard = np.concatenate(back)
    assert 20 * np.log10(heard[10 * FRAME :].std() / voice.std()) == pytest.approx(-20.0, abs=1.0)
    assert not heard[: round(0.05 * RATE)].any()
    assert np.correlate(heard, voice[: 20 * FRAME].astype(np.float64)).argmax() == round(0.05 * RATE)


NOD = Said(start=12.0, end=12.4)


def test_a_voice_that_pauses_for_a_nod_and_comes_back_was_not_stopped() -> None:
    heard = judge_backchannel("uh-huh", NOD, packets(10.0, 110) + packets(12.7, 120), REPLY)
    assert heard.silence == pytest.approx(500)
    assert not heard.stopped


def test_a_voice_that_gives_up_was_stopped() -> None:
    assert judge_backchannel("uh-huh", NOD, packets(10.0, 100), REPLY).stopped


def test_a_new_reply_is_no_resumption() -> None:
    another: list[Event] = [(12.6, "tts_req", {"hz": FILLER, "text": "Sure, I can check that for you."})]
    heard = packets(10.0, 110) + packets(12.9, 110, FILLER)
    assert judge_backchannel("uh-huh", NOD, heard, REPLY + another).stopped


WAIT = Said(start=11.0, end=12.0)
HEARD_WORDS = words_said(1.1 / SLOW_PACE)


@pytest.mark.parametrize(("words", "off"), [(HEARD_WORDS, 0), (HEARD_WORDS + 2, 2)])
def test_an_interruption_is_understood_and_remembered(words: int, off: int) -> None:
    history = [("assistant", " ".join(TEXT.split()[:words]) + "…"), ("user", "no wait i meant tuesday")]
    asked: list[Event] = [(12.5, "llm_req", {"user": history[-1][1], "messages": history})]
    heard = packets(10.0, 55)
    judged = judge_interruption("No wait, I meant Tuesday.", WAIT, 80.0, 10.0, 13.0, heard, asked)
    assert (judged.taken, judged.off) == (True, off)


def test_an_interruption_that_nobody_was_asked_about_was_missed() -> None:
    assert not judge_interruption("Stop.", WAIT, 80.0, 10.0, None, packets(10.0, 55), []).taken


def test_words_are_counted_as_far_as_they_are_the_replys() -> None:
    assert words_of(TEXT) == len(TEXT.split())
    assert words_of("Sure, I can…") == 3
    assert words_of("Sure, you can") == 1
    assert words_said(len("Sure, I")) == 2
    assert words_said(1000) == len(TEXT.split())


def test_noises_are_short_and_heard() -> None:
    made = noises(2 * len(NOISES))
    assert {name for name, _ in made} == set(NOISES)
    for _, sound in made:
        assert 0.1 < len(sound) / RATE < 1.2
        assert 0.02 < np.abs(sound).max() < 1.0


# ----------------------------------------------------------------------------------------------- figures

GOOD = Exchange("a", False, 500.0, False, False, False, 1, 0)
CUT = Exchange("b", True, 200.0, True, False, True, 2, 0)


def call(script: str, *outcomes: Exchange | BargeIn) -> Call:
    return Call(script, 60.0, 3.0, 100.0, [0.5, 1.5], 1.0, outcomes)


def test_the_summary_leaves_out_what_is_not_valid() -> None:
    figures = summary([call("turns", GOOD, CUT)])
    assert (figures["valid"], figures["turns"], figures["v2v_p50"], figures["cutoffs"]) == (1, 2, 500, 1)
    assert figures["cpu_seconds_per_minute"] == 3.0
    assert "barge_in_p50" not in figures


def test_one_of_four_may_be_cut_off_in_a_long_pause_and_nobody_in_a_short_one() -> None:
    long = summary([call("turns:1.0", GOOD, GOOD, GOOD, CUT)])
    assert not missed(judged(long))
    assert [verdict.limit.figure for verdict in missed(judged(summary([call("turns", GOOD, CUT)])))] == ["cutoffs"]


def test_an_interruption_that_stopped_nothing_misses_its_limit() -> None:
    figures = summary([call("barge:2", BargeIn(90.0, 110.0), BargeIn(None, None))])
    assert [verdict.limit.figure for verdict in missed(judged(figures))] == ["barge_in_missed"]


def test_the_table_has_a_column_for_each_system() -> None:
    shown = table({"ours": summary([call("turns", GOOD)]), "theirs": summary([call("barge:1", BargeIn(90.0, 1.0))])})
    assert "| silence before an answer, median, ms | 600 | 500 | – | ok |" in shown
