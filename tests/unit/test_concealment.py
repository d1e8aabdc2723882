"""What is heard in place of lost audio."""

from __future__ import annotations

import numpy as np
import pytest

from connector.audio import Samples
from connector.receiver.concealment import Concealment
from tests.fakes.audio import level_db, tone


def frames(samples: Samples, rate: int) -> list[Samples]:
    return np.split(samples, len(samples) * 50 // rate)


def heard(samples: Samples, lost: set[int], rate: int = 8000, *, bridged: bool = False) -> Samples:
    """`samples` frame by frame, with the frames numbered in `lost` made up; `bridged`: what follows is known."""
    concealment = Concealment(rate)
    played: list[Samples] = []

    def past() -> Samples:
        return np.concatenate(played)

    sent = frames(samples, rate)
    for index, frame in enumerate(sent):
        if len(played) > index:
            continue
        if index not in lost:
            played.append(concealment.resume(frame) if concealment.made_up else frame)
        elif bridged and index + 1 not in lost:
            played += np.split(concealment.bridge(len(frame), past, sent[index + 1]), 2)
        else:
            played.append(concealment.conceal(len(frame), past))
    return np.concatenate(played)


def steepest(samples: Samples) -> int:
    """The largest step between two neighbours: a click shows here."""
    return int(np.abs(np.diff(samples.astype(np.int32))).max())


def voiced(pitch: float, seconds: float = 0.4, rate: int = 8000) -> Samples:
    return (tone(pitch, seconds, rate).samples + tone(3 * pitch, seconds, rate).samples // 2).astype(np.int16)


@pytest.mark.parametrize("rate", [8000, 16_000])
@pytest.mark.parametrize("bridged", [False, True])
@pytest.mark.parametrize("pitch", [80, 125, 180, 230, 310])
def test_one_lost_frame_of_a_voiced_sound_goes_on_at_its_pitch_without_a_click(
    pitch: int, bridged: bool, rate: int
) -> None:
    voice = voiced(pitch, rate=rate)
    repaired = heard(voice, {10}, rate, bridged=bridged)
    frame = rate // 50
    filled = repaired[10 * frame : 11 * frame]
    assert level_db(filled) == pytest.approx(level_db(voice), abs=3)
    assert steepest(repaired) < 1.5 * steepest(voice)
    error = filled[: frame // 2].astype(float) - voice[10 * frame : 10 * frame + frame // 2]
    assert level_db(error.astype(np.int16)) < level_db(voice) - 10, "the first 10 ms continue the wave"


def test_a_gap_that_is_known_from_both_sides_is_filled_from_both() -> None:
    before, after = voiced(100, 0.4), voiced(150, 0.4)
    voice = np.concatenate((before, after))
    lost = set(range(14, 22))
    one, both = heard(voice, lost), heard(voice, lost, bridged=True)
    gap = slice(21 * 160, 22 * 160)
    assert level_db(both[gap]) > level_db(after) - 6 > level_db(one[gap]), "the new sound does not begin out of nothing"
    assert steepest(both) < 1.5 * steepest(voice)


@pytest.mark.parametrize("length", [40, 80, 120, 160])
def test_a_packet_too_short_to_tell_its_pitch_is_led_in_without_a_click(length: int) -> None:
    voice = voiced(150)
    concealment = Concealment(8000)
    filled = concealment.bridge(length, lambda: voice[:800], voice[800 + length : 800 + 2 * length])
    assert len(filled) == 2 * length
    assert steepest(np.concatenate((voice[:800], filled, voice[800 + 2 * length :]))) < 1.5 * steepest(voice)
    assert not concealment.made_up


def test_a_long_loss_fades_into_silence() -> None:
    repaired = heard(tone(200, 0.8).samples, set(range(10, 25)))
    levels = [level_db(frame) for frame in frames(repaired, 8000)[10:25]]
    assert levels[0] == pytest.approx(level_db(tone(200, 0.8).samples), abs=0.5)
    assert levels[1] > levels[2] > levels[3] > levels[4] > levels[5]
    assert levels[6:] == [-120] * 9
    assert steepest(repaired) < 2 * steepest(tone(200, 0.6).samples)


def test_after_a_loss_only_the_crossfade_differs() -> None:
    voice = tone(150, 0.4).samples
    repaired = heard(voice, {10})
    assert np.array_equal(repaired[11 * 160 + 20 :], voice[11 * 160 + 20 :])
    assert not np.array_equal(repaired[11 * 160 : 11 * 160 + 20], voice[11 * 160 : 11 * 160 + 20])


def test_before_anything_was_heard_there_is_silence() -> None:
    assert level_db(Concealment(8000).conceal(160, lambda: np.zeros(0, np.int16))) == -120


def test_full_scale_does_not_wrap_around() -> None:
    loud = np.where(np.arange(3200) // 40 % 2, 32767, -32768).astype(np.int16)
    repaired = heard(loud, {10, 14}, bridged=True)
    assert set(np.sign(repaired[10 * 160 : 10 * 160 + 39])) == {-1}
