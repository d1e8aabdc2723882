"""What the measurement of speech sends, loses, plays, finds again and concludes."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bench.speech.__main__ import overtaken, percents, rows
from bench.speech.material import FRAME, LISTS, RATE, Material, Sentence, material, matrix_sentences
from bench.speech.network import BURST, Arrival, Impairment, Trace, trace
from bench.speech.report import Result, as_json, show, totals, verdict
from bench.speech.scores import Recogniser, Score, lags, score, stoi
from bench.speech.systems import SYSTEMS, Played, clean_delays, missing, slots
from bench.speech.verdict import Row, compare, comparisons, figures
from connector.audio import Samples
from connector.codec.g711 import MuLaw

PACKETS = 300
PHASE = 0.007


def babble(packets: int = PACKETS, seed: int = 1) -> Material:
    """Noise with the envelope of syllables: nothing in it looks like anything else of it. One sentence of it."""
    draw = np.random.default_rng(seed)
    time = np.arange(packets * FRAME) / RATE
    noise = draw.standard_normal(len(time)) * (1 + np.sin(2 * np.pi * 4 * time)) * 2000
    codec = MuLaw()
    octets = codec.encode(noise.astype(np.int16))
    payloads = [octets[start : start + FRAME] for start in range(0, len(octets), FRAME)]
    return Material(payloads, codec.decode(octets), [Sentence(("one",), "babble", 50 * FRAME + 40, 150 * FRAME)])


def clean(packets: int = PACKETS, without: Sequence[int] = ()) -> Trace:
    """A line that loses the packets of `without` only."""
    arrivals = [Arrival(0.02 * packet, packet) for packet in range(packets) if packet not in without]
    return Trace(arrivals, [PHASE + 0.02 * slot for slot in range(packets)], packets)


# --------------------------------------------------------------------------------- what is sent


def test_every_word_is_said_equally_often() -> None:
    sentences = matrix_sentences(20)
    for place, words in enumerate(LISTS):
        assert sorted(sentence[place] for sentence in sentences) == sorted([*words] * 2)
    assert len(set(sentences)) == 20


def test_sentences_are_spoken_once_and_found_where_they_are_said_to_be(tmp_path: Path) -> None:
    """What lies between them is line noise; every packet is 20 ms."""
    spoken = material(2, cache=tmp_path)
    again = material(2, cache=tmp_path)
    assert {len(payload) for payload in spoken.payloads} == {FRAME}
    assert spoken.seconds == pytest.approx(0.02 * len(spoken.payloads))
    assert spoken.speech_seconds > 2
    assert again.payloads == spoken.payloads
    quiet = np.ones(len(spoken.samples), bool)
    for sentence in spoken.sentences:
        quiet[sentence.begin : sentence.end] = False
        assert np.abs(spoken.samples[sentence.begin : sentence.end]).max() > 5000
    assert np.abs(spoken.samples[quiet]).max() < 200


# ---------------------------------------------------------------------------------- the network


def test_a_trace_is_the_same_every_time_and_another_with_each_seed() -> None:
    impairment = Impairment(0.05, bursty=True, jitter=0.04)
    assert trace(impairment, 500, 1) == trace(impairment, 500, 1)
    assert trace(impairment, 500, 1) != trace(impairment, 500, 2)


def test_rows_that_differ_in_loss_jitter_alike() -> None:
    whole = dict(map(reversed, trace(Impairment(jitter=0.04), 500, 1).arrivals))
    lossy = dict(map(reversed, trace(Impairment(0.1, jitter=0.04), 500, 1).arrivals))
    assert len(lossy) < len(whole)
    assert lossy.items() <= whole.items()


@pytest.mark.parametrize("bursty", [False, True])
def test_as_many_packets_are_lost_as_stated(bursty: bool) -> None:
    found = trace(Impairment(0.1, bursty), 100_000, 1)
    arrived = {arrival.packet for arrival in found.arrivals}
    lost = [packet not in arrived for packet in range(found.count)]
    begun = sum(now and not before for before, now in zip([False, *lost], lost, strict=False))
    assert sum(lost) / len(lost) == pytest.approx(0.1, rel=0.05)
    assert sum(lost) / begun == pytest.approx(BURST if bursty else 1 / 0.9, rel=0.05)


def test_jitter_is_within_what_is_stated_and_overtaken_packets_come_later() -> None:
    found = trace(Impairment(jitter=0.04), 20_000, 1)
    delays = np.array([at - 0.02 * packet for at, packet in found.arrivals])
    assert (delays < 0.04).mean() == pytest.approx(0.95, abs=0.01)
    assert delays.min() >= 0
    assert delays.max() <= 0.08 + 1e-9
    assert sorted(found.arrivals) == found.arrivals
    assert overtaken(found) > 1000


def test_every_packet_reaches_the_first_tick_after_it() -> None:
    found = trace(Impairment(jitter=0.08), 200, 3)
    before = -math.inf
    for tick, arrivals in slots(found):
        assert all(before < arrival.at <= tick for arrival in arrivals)
        before = tick


# ---------------------------------------------------------------------------------- the systems


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_plays_a_clean_line_as_it_was_sent(name: str) -> None:
    """Whole and unchanged, once it has begun to play; the alignment finds how late that is."""
    if package := missing(name):
        pytest.skip(f"no {package}")
    sent = babble()
    played = SYSTEMS[name](sent.payloads, clean())
    begin, end = sent.sentences[0].begin, sent.sentences[0].end
    whole, track = lags(sent.samples[begin:end].astype(float), played.samples.astype(float), begin)
    assert (track == whole).all()
    assert 0 <= whole <= 0.1 * RATE
    assert np.array_equal(played.samples[begin + whole : end + whole], sent.samples[begin:end])


def test_zero_fill_is_silent_for_what_is_lost() -> None:
    sent = babble()
    whole = SYSTEMS["zero-fill"](sent.payloads, clean()).samples
    holed = SYSTEMS["zero-fill"](sent.payloads, clean(without=[100])).samples
    differs = np.flatnonzero(whole != holed)
    assert differs[-1] - differs[0] < FRAME
    assert not holed[differs[0] : differs[-1] + 1].any()


def test_zero_fill_does_not_play_what_comes_after_its_turn() -> None:
    sent = babble()
    in_time = clean()
    late = sorted(Arrival(at + 0.09 * (packet == 100), packet) for at, packet in in_time.arrivals)
    played = SYSTEMS["zero-fill"](sent.payloads, Trace(late, in_time.ticks, PACKETS)).samples
    lost = SYSTEMS["zero-fill"](sent.payloads, clean(without=[100])).samples
    assert np.array_equal(played, lost)


def test_aiortc_gives_up_packets_before_a_lost_one() -> None:
    """Of packets 0 to 299 without 100 it is 97, 98 and 99 that never come out, and delay grows from there on."""
    pytest.importorskip("aiortc")
    sent = babble()
    played = SYSTEMS["aiortc"](sent.payloads, clean(without=[100]))
    silent = [packet for packet in range(280) if not played.samples[packet * FRAME : (packet + 1) * FRAME].any()]
    assert silent[-1] == 100
    assert 3 <= len(silent) <= 5
    assert played.delays is not None
    assert played.delays[0] == pytest.approx(0.08)
    assert played.delays[-1] > 0.25


def test_ours_plays_the_frame_when_it_says() -> None:
    """The delay that the alignment finds is the one that the path itself tells."""
    sent = babble()
    line = clean()
    told = clean_delays(sent.payloads, [line], settled=2.0)
    played = SYSTEMS["voxtrunk"](sent.payloads, line)
    reference = sent.samples[sent.sentences[0].begin : sent.sentences[0].end].astype(float)
    whole, _ = lags(reference, played.samples.astype(float), sent.sentences[0].begin)
    assert np.median(told) == pytest.approx(whole / RATE + PHASE, abs=0.001)


# ----------------------------------------------------------------------------------- the scores


def test_a_change_of_delay_within_a_sentence_is_followed() -> None:
    """20 ms more from its middle on: found as such, and found to be as good as the original."""
    sent = babble()
    begin, end = sent.sentences[0].begin, sent.sentences[0].end
    middle = (begin + end) // 2
    played = np.concatenate([np.zeros(80, np.int16), sent.samples[:middle], sent.samples[middle - FRAME :]])
    whole, track = lags(sent.samples[begin:end].astype(float), played.astype(float), begin)
    assert whole in (80, 80 + FRAME)
    assert track[0] == 80
    assert track[-1] == 80 + FRAME
    assert np.count_nonzero(np.diff(track)) == 1


def test_a_lost_packet_is_no_change_of_delay() -> None:
    sent = babble()
    begin, end = sent.sentences[0].begin, sent.sentences[0].end
    played = sent.samples.astype(float)
    played[begin + 3000 : begin + 3000 + 2 * FRAME] = 0
    _, track = lags(sent.samples[begin:end].astype(float), played, begin)
    assert not track.any()


def test_stoi_falls_with_what_is_missing() -> None:
    pytest.importorskip("pystoi")
    sent = babble().samples.astype(float)
    holes = np.ones(PACKETS, bool)
    holes[random.Random(1).sample(range(PACKETS), 60)] = False
    some = sent * np.repeat(holes, FRAME)
    assert stoi(sent, sent) == pytest.approx(1.0, abs=1e-6)
    assert stoi(sent, some) < 0.95
    assert stoi(sent, np.random.default_rng(9).standard_normal(len(sent))) < stoi(sent, some) - 0.2


class Deaf(Recogniser):
    """Hears no word, and needs no model."""

    def __init__(self) -> None:
        pass

    def words(self, samples: Samples) -> list[str]:
        return []


def test_a_score_counts_words_and_reads_delays_from_the_sound() -> None:
    """Packets that were lost have no delay."""
    pytest.importorskip("pystoi")
    sent = babble()
    silence = np.zeros(2 * FRAME, np.int16)
    without = [60, 61]
    found = score(sent, clean(without=without), Played(np.concatenate([silence, sent.samples]), PHASE), Deaf())
    assert found.stoi == pytest.approx(1.0, abs=1e-6)
    assert found.stoi_followed == found.stoi
    assert (found.errors, found.words) == (1, 5)
    assert found.delays == pytest.approx([0.04 + PHASE] * (100 - len(without)))


def test_the_recogniser_counts_each_word_alone(tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    spoken = material(1, cache=tmp_path)
    sentence = spoken.sentences[0]
    recogniser = Recogniser()
    assert recogniser.errors(spoken.samples, sentence.words) <= 1
    heard = recogniser.words(spoken.samples)
    assert recogniser.errors(spoken.samples, [*heard[:3], "nonsense", heard[4]]) == 1
    assert recogniser.errors(np.zeros(RATE, np.int16), sentence.words) == len(sentence.words)


# ---------------------------------------------------------------------------------- the verdict


def scored(stoi: float, wrong: Sequence[int], delay: float = 0.03) -> Score:
    return Score(stoi, stoi, tuple(wrong), 5 * len(wrong), np.full(10, delay))


def row(loss: float, **scores: Score) -> Row:
    return Row(Impairment(loss), 1000, round(1000 * loss), 0, {name: [one] for name, one in scores.items()})


def result(*found: Row, clean_p50: float = 0.02) -> Result:
    return Result(40, ["flite:slt"], 75.0, [1], found, clean_p50, clean_p50, comparisons(found, "ours"))


def test_figures_sum_up_the_seeds() -> None:
    summed = figures([scored(0.9, [1, 0], 0.02), scored(0.8, [0, 2], 0.06)])
    assert summed.stoi == pytest.approx(0.85)
    assert summed.wer == pytest.approx(3 / 20)
    assert summed.delay_p50 == pytest.approx(0.04)
    assert summed.delay_p95 == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("ours", "theirs", "ahead"),
    [
        (scored(0.9, [0] * 40), scored(0.8, [0] * 40), True),
        (scored(0.8, [0] * 40), scored(0.9, [1] * 40), False),
        (scored(0.8, [0] * 40), scored(0.8, [1] * 40), False),
        (scored(0.9, [1] + [0] * 39), scored(0.8, [0] * 40), True),
        (scored(0.9, [1] * 20 + [0] * 20), scored(0.8, [0] * 40), False),
    ],
    ids=["both better", "STOI worse", "STOI equal", "a word more by chance", "many words more"],
)
def test_ahead_is_a_higher_stoi_and_no_more_words_wrong(ours: Score, theirs: Score, ahead: bool) -> None:
    assert compare(Impairment(0.05), "peer", [ours], [theirs]).ahead is ahead


def test_only_rows_with_loss_are_compared() -> None:
    good, bad = scored(0.9, [0] * 4), scored(0.8, [1] * 4)
    assert result(row(0.0, ours=bad, peer=good), row(0.05, ours=good, peer=bad)).good
    assert not result(row(0.05, ours=bad, peer=good)).good
    assert not result(row(0.05, peer=good)).comparisons


def test_too_much_delay_on_a_clean_line_is_no_good() -> None:
    lossy = row(0.05, ours=scored(0.9, [0]), peer=scored(0.8, [0]))
    assert result(lossy, clean_p50=0.030).good
    assert not result(lossy, clean_p50=0.031).good


def test_the_report_tells_where_ours_is_behind() -> None:
    found = result(
        row(0.0, ours=scored(1.0, [0] * 4), peer=scored(1.0, [0] * 4)),
        row(0.05, ours=scored(0.9, [0] * 4), peer=scored(0.8, [1] * 4)),
        row(0.1, ours=scored(0.7, [0] * 4), peer=scored(0.8, [0] * 4)),
    )
    [line] = verdict(found)
    assert line.startswith(
        "peer: ours has the higher STOI in 1 of 2 rows with loss; fewer words wrong in 1, as many in 1"
    )
    assert "not ahead in: 10% random (STOI -0.1000, words wrong +0)" in line
    assert totals(found.rows)["ours"] == pytest.approx((0.8, 0.0))
    text = io.StringIO()
    show(found, Console(file=text, width=120))
    assert "0.900" in text.getvalue()
    assert "clean line: our receive path adds 20.0 ms p50" in text.getvalue()
    document = as_json(found)
    assert document["good"] is False
    assert document["rows"][1]["systems"]["peer"]["words_wrong"] == 4
    assert document["all_with_loss"]["peer"] == {"stoi": 0.8, "wer": 0.1}


def test_rows_are_every_loss_in_both_kinds_with_every_jitter() -> None:
    found = list(rows(percents("0,5"), percents("0,40", 1000)))
    assert [str(one) for one in found] == [
        "no loss",
        "5% random",
        "5% bursty",
        "no loss, 40 ms",
        "5% random, 40 ms",
        "5% bursty, 40 ms",
    ]
