"""Playout: generations, positions, cutting off and going on."""

from __future__ import annotations

import numpy as np
import pytest

from connector.audio import Audio, Samples
from connector.codec.resample import resample
from connector.interfaces import Position
from connector.sender.playout import Playout
from tests.fakes.audio import FRAME, hears, level_db, tone


def constant(value: int, samples: int) -> Audio:
    return Audio(np.full(samples, value, np.int16), 8000)


def pulled(playout: Playout, frames: int) -> Samples:
    """What leaves in `frames` frames; silence as zeros."""
    silence = np.zeros(FRAME, np.int16)
    return np.concatenate(
        [silence if (frame := playout.pull(FRAME)) is None else frame for _ in range(frames)] or [silence[:0]]
    )


def test_speech_leaves_in_order_and_the_position_follows() -> None:
    playout = Playout(8000)
    assert playout.position == Position(0, 0.0)
    speech = tone(440, 0.1).samples
    playout.write(1, Audio(speech[:300], 8000))
    playout.write(1, Audio(speech[300:], 8000))
    assert np.array_equal(pulled(playout, 3), speech[: 3 * FRAME])
    assert playout.position == Position(1, 0.06)
    assert playout.over(1) is None


def test_the_last_partial_frame_is_padded_once_finished_and_not_thrown_away() -> None:
    playout = Playout(8000)
    playout.write(1, constant(300, 250))
    playout.finish(1)
    heard = pulled(playout, 3)
    assert list(heard[:250]) == [300] * 250
    assert not heard[250:].any()
    assert playout.over(1) == Position(1, 250 / 8000)


def test_a_partial_frame_waits_for_the_rest_of_the_sentence() -> None:
    playout = Playout(8000)
    playout.write(1, constant(300, 250))
    assert playout.pull(FRAME) is not None
    assert playout.pull(FRAME) is None
    playout.write(1, constant(300, 70))
    assert playout.pull(FRAME) is None, "one gap is better than one after each frame"
    playout.write(1, constant(300, 2 * FRAME))
    frame = playout.pull(FRAME)
    assert frame is not None
    assert list(frame[40:]) == [300] * (FRAME - 40)
    assert playout.position == Position(1, 0.04)


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 24_000, 44_100, 48_000])
def test_every_rate_of_speech_is_heard_whole(rate: int) -> None:
    playout = Playout(8000)
    for piece in np.array_split(tone(440, 1.0, rate).samples, 7):
        playout.write(1, Audio(piece, rate))
    playout.finish(1)
    heard = pulled(playout, 51)
    assert hears(heard[80:7920], 440)
    assert playout.over(1) == Position(1, 1.0)
    assert not heard[8040:].any(), "the last words ring out for 5 ms at most"


def test_the_rate_may_change_within_a_generation() -> None:
    playout = Playout(8000)
    for rate in (24_000, 8000, 16_000):
        playout.write(1, tone(440, 0.2, rate))
    playout.finish(1)
    heard = pulled(playout, 31)
    assert playout.over(1) == Position(1, pytest.approx(0.6, abs=0.001))
    assert all(hears(heard[begin + 80 : begin + 1520], 440) for begin in (0, 1600, 3200))


def test_a_newer_generation_supersedes_and_an_older_one_is_stale() -> None:
    playout = Playout(8000)
    playout.write(1, constant(300, 10 * FRAME))
    pulled(playout, 2)
    playout.write(2, constant(200, 2 * FRAME))
    playout.write(1, constant(300, FRAME))
    playout.finish(1)
    playout.finish(2)
    heard = pulled(playout, 5)
    assert set(heard[FRAME : 3 * FRAME]) == {200}
    assert not heard[3 * FRAME :].any()
    assert playout.over(1) == Position(1, pytest.approx(0.045))
    assert playout.over(2) == Position(2, 0.04)


def test_clear_says_what_was_heard_and_makes_the_generation_stale() -> None:
    playout = Playout(8000)
    playout.write(3, constant(8000, 10 * FRAME))
    pulled(playout, 4)
    position = playout.clear()
    assert position == Position(3, pytest.approx(0.085)), "four frames and 5 ms that fade"
    playout.write(3, constant(8000, FRAME))
    heard = pulled(playout, 3)
    assert not heard[40:].any()
    assert playout.over(3) == position
    playout.write(4, constant(250, FRAME))
    assert set(pulled(playout, 1)) == {250}


def test_what_is_cut_off_fades_out_and_does_not_click() -> None:
    playout = Playout(8000)
    playout.write(1, constant(8000, 10 * FRAME))
    pulled(playout, 2)
    playout.clear()
    heard = pulled(playout, 2).astype(np.int32)
    assert heard[0] == 8000
    assert np.abs(np.diff(heard)).max() < 300


def test_clearing_what_has_not_begun_makes_no_sound() -> None:
    playout = Playout(8000)
    playout.write(1, constant(8000, 10 * FRAME))
    assert playout.clear() == Position(1, 0.0)
    assert not pulled(playout, 3).any()


def test_clearing_nothing_leaves_the_first_generation_playable() -> None:
    playout = Playout(8000)
    assert playout.clear() == Position(0, 0.0)
    playout.write(0, constant(250, FRAME))
    assert set(pulled(playout, 1)) == {250}


def test_a_pause_keeps_what_was_written() -> None:
    playout = Playout(8000)
    speech = tone(440, 0.2).samples
    playout.write(1, Audio(speech, 8000))
    pulled(playout, 2)
    playout.pause()
    playout.pause()
    assert level_db(pulled(playout, 5)[40:]) == -120
    heard = playout.position.seconds
    assert heard == pytest.approx(0.045)
    playout.resume()
    assert playout.position.seconds == pytest.approx(0.04), "what faded out fades in: none of it is lost"
    rest = pulled(playout, 2)
    assert abs(rest[:4]).max() < abs(speech[320:330]).max() / 4
    assert np.array_equal(rest[40:], speech[360 : 320 + 2 * FRAME])


def spoken(words: list[tuple[float, float]], rate: int = 8000) -> Audio:
    """Words of 150 Hz, each (seconds of silence before it, its seconds)."""
    pieces = []
    for gap, seconds in words:
        pieces += [np.zeros(round(gap * rate), np.int16), tone(150, seconds, rate).samples]
    return Audio(np.concatenate(pieces), rate)


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 24_000])
@pytest.mark.parametrize("size", [0.02, 0.05, 9.0])
def test_a_word_that_was_cut_off_is_heard_again_from_its_begin(rate: int, size: float) -> None:
    playout = Playout(8000)
    speech = spoken([(0.0, 0.3), (0.1, 0.3), (0.1, 0.5)], rate)
    for piece in np.split(speech.samples, range(round(size * rate), len(speech.samples), round(size * rate))):
        playout.write(1, Audio(piece, rate))
    pulled(playout, 64)  # up to 1.28 s; the third word began at 0.8 s
    playout.pause()
    pulled(playout, 10)
    playout.resume(back=0.6)
    assert 0.77 <= playout.position.seconds <= 0.8
    begin = round(playout.position.seconds * 8000)
    playout.finish(1)
    rest = pulled(playout, 30)
    whole = resample(speech, 8000).samples
    assert np.abs(rest[: len(whole) - begin].astype(int) - whole[begin:]).max() < 500
    assert playout.over(1) == Position(1, pytest.approx(len(speech.samples) / rate))


def test_speech_goes_back_no_further_than_it_may() -> None:
    playout = Playout(8000)
    playout.write(1, spoken([(0.0, 0.3), (0.1, 2.0)]))
    pulled(playout, 60)
    playout.pause()
    playout.resume(back=0.2)
    assert 1.0 <= playout.position.seconds <= 1.2
    pulled(playout, 11)
    playout.pause()
    playout.resume(back=9.0)
    assert playout.position.seconds >= 0.59


def test_a_pause_between_two_words_hears_neither_again() -> None:
    playout = Playout(8000)
    playout.write(1, spoken([(0.0, 0.3), (0.2, 0.5)]))
    pulled(playout, 20)
    playout.pause()
    playout.resume(back=0.5)
    assert playout.position.seconds == pytest.approx(0.39, abs=0.011)


def test_nothing_is_heard_again_of_an_older_reply_or_before_a_pause() -> None:
    playout = Playout(8000)
    playout.write(1, tone(150, 1.0))
    pulled(playout, 20)
    playout.resume(back=0.5)
    assert playout.position == Position(1, 0.4)
    playout.pause()
    playout.write(2, tone(150, 1.0))
    playout.resume(back=0.5)
    assert playout.position == Position(2, 0.0)


def test_what_was_emitted_whole_is_not_heard_again() -> None:
    playout = Playout(8000)
    playout.write(1, tone(150, 0.2))
    playout.finish(1)
    pulled(playout, 11)
    over = playout.over(1)
    playout.pause()
    playout.resume(back=0.5)
    assert playout.over(1) == playout.position == over == Position(1, 0.2)
    assert not pulled(playout, 3).any()


def test_the_word_is_heard_again_at_the_rate_that_was_agreed_on_during_the_pause() -> None:
    playout = Playout(8000)
    playout.write(1, spoken([(0.0, 0.3), (0.1, 0.6)], 24_000))
    pulled(playout, 30)
    playout.pause()
    pulled(playout, 1)
    playout.rate = 16_000
    playout.resume(back=0.5)
    begin = playout.position.seconds
    assert 0.37 <= begin <= 0.4
    heard = np.concatenate([frame for _ in range(20) if (frame := playout.pull(320)) is not None])
    assert hears(heard[round((0.41 - begin) * 16_000) :], 150, 16_000)


def test_a_word_that_an_engine_was_late_with_is_heard_again() -> None:
    playout = Playout(8000)
    playout.write(1, spoken([(0.0, 0.3), (0.1, 0.2)]))
    pulled(playout, 40)
    playout.pause()
    playout.resume(back=0.4)
    assert 0.37 <= playout.position.seconds <= 0.4
    assert level_db(pulled(playout, 5)) > -20


def test_clear_in_a_pause_says_what_was_heard_until_it_began() -> None:
    playout = Playout(8000)
    playout.write(1, tone(150, 1.0))
    pulled(playout, 10)
    playout.pause()
    pulled(playout, 10)
    assert playout.clear() == Position(1, pytest.approx(0.205))
    playout.resume(back=0.5)
    assert not pulled(playout, 3).any()


def test_clear_ends_a_pause_so_that_the_next_reply_is_heard() -> None:
    playout = Playout(8000)
    playout.write(1, constant(8000, 4 * FRAME))
    pulled(playout, 1)
    playout.pause()
    playout.clear()
    pulled(playout, 1)
    playout.write(2, constant(200, FRAME))
    assert set(pulled(playout, 1)) == {200}


def test_a_generation_without_speech_is_over_when_it_is_finished() -> None:
    playout = Playout(8000)
    playout.finish(1)
    assert playout.over(1) == Position(1, 0.0)
    assert playout.pull(FRAME) is None


def test_speech_after_the_finish_is_dropped() -> None:
    playout = Playout(8000)
    playout.write(1, constant(300, FRAME))
    playout.finish(1)
    playout.write(1, constant(300, FRAME))
    assert set(pulled(playout, 1)) == {300}
    assert playout.pull(FRAME) is None


def loud(seconds: float, rate: int = 8000) -> Audio:
    """Speech that begins and ends at full swing."""
    time = np.arange(round(seconds * rate)) / rate
    return Audio(np.rint(8000 * np.cos(2 * np.pi * 200 * time)).astype(np.int16), rate)


def steepest(heard: Samples) -> int:
    """The greatest step between two samples, silence around; of `loud` alone it is 1257."""
    return int(np.abs(np.diff(heard.astype(np.int32), prepend=0)).max())


@pytest.mark.parametrize("seconds", [0.06, 0.075, 0.0775])
def test_words_that_begin_and_end_at_once_do_not_click_and_are_heard_whole(seconds: float) -> None:
    playout = Playout(8000)
    speech = loud(seconds)
    playout.write(1, speech)
    playout.finish(1)
    heard = pulled(playout, 6)
    assert steepest(heard) < 1400
    assert np.array_equal(heard[40 : len(speech.samples)], speech.samples[40:])
    assert not heard[len(speech.samples) + 40 :].any()
    assert playout.over(1) == Position(1, seconds)


def test_a_quiet_begin_is_not_faded() -> None:
    """The first consonant of a greeting is heard as it was spoken."""
    playout = Playout(8000)
    speech = tone(440, 0.1).samples
    playout.write(1, Audio(speech, 8000))
    assert np.array_equal(pulled(playout, 5), speech)


@pytest.mark.parametrize("rate", [8000, 24_000])
def test_an_engine_slower_than_speech_is_heard_in_smooth_pieces_and_nothing_is_lost(rate: int) -> None:
    playout = Playout(8000)
    playout.write(1, loud(0.1, rate))
    first = pulled(playout, 10)
    position = playout.position.seconds
    assert 0.08 <= position <= 0.1
    assert steepest(first) < 1600
    playout.write(1, loud(0.03, rate))
    assert not pulled(playout, 2).any(), "there is no reserve yet"
    playout.write(1, loud(0.07, rate))
    playout.finish(1)
    second = pulled(playout, 8)
    assert steepest(second) < 1600
    assert playout.over(1) == Position(1, 0.2)


def test_the_end_of_the_words_that_an_engine_was_late_with_needs_no_reserve() -> None:
    playout = Playout(8000)
    playout.write(1, constant(300, FRAME))
    pulled(playout, 2)
    playout.write(1, constant(300, 50))
    playout.finish(1)
    assert pulled(playout, 1).any()
    assert playout.over(1) == Position(1, (FRAME + 50) / 8000)


def test_a_pause_in_the_gap_of_a_slow_engine_stays_silent_and_keeps_its_place() -> None:
    playout = Playout(8000)
    playout.write(1, loud(0.1))
    pulled(playout, 7)
    playout.pause()
    playout.write(1, loud(0.1))
    assert not pulled(playout, 3).any()
    playout.resume()
    assert steepest(pulled(playout, 3)) < 1400
    assert playout.position == Position(1, pytest.approx(0.16))


@pytest.mark.parametrize("call", ["pause", "clear"])
def test_nothing_but_five_milliseconds_follows_a_cut_at_any_rate_of_the_wire(call: str) -> None:
    for rate in (8000, 16_000):
        playout = Playout(rate)
        playout.write(1, loud(1.0, 24_000))
        for _ in range(3):
            playout.pull(rate // 50)
        getattr(playout, call)()
        tail = playout.pull(rate // 50)
        assert tail is not None
        assert not tail[rate // 200 :].any()
        assert playout.pull(rate // 50) is None
        assert playout.position.seconds == pytest.approx(0.065)


def test_the_rate_of_the_wire_changes_while_a_cut_fades() -> None:
    playout = Playout(8000)
    playout.write(1, loud(1.0))
    pulled(playout, 2)
    playout.clear()
    playout.rate = 16_000
    tail = playout.pull(320)
    assert tail is not None
    assert tail[:60].any()
    assert not tail[90:].any()
