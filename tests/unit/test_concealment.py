"""What is heard in place of lost audio."""

from __future__ import annotations

import numpy as np
import pytest

from connector.audio import Samples
from connector.receiver.concealment import Concealment
from tests.fakes.audio import FRAME, level_db, tone


def frames(samples: Samples) -> list[Samples]:
    return [samples[begin : begin + FRAME] for begin in range(0, len(samples), FRAME)]


def heard(samples: Samples, lost: set[int]) -> Samples:
    """`samples` frame by frame, with the frames numbered in `lost` made up."""
    concealment = Concealment(8000)
    return np.concatenate(
        [
            concealment.conceal(FRAME) if index in lost else concealment.good(frame)
            for index, frame in enumerate(frames(samples))
        ]
    )


def steepest(samples: Samples) -> int:
    """The largest step between two neighbours: a click shows here."""
    return int(np.abs(np.diff(samples.astype(np.int32))).max())


@pytest.mark.parametrize("pitch", [80, 125, 180])
def test_one_lost_frame_of_a_voiced_sound_goes_on_at_its_pitch_without_a_click(pitch: int) -> None:
    voice = (tone(pitch, 0.4).samples + tone(3 * pitch, 0.4).samples // 2).astype(np.int16)
    repaired = heard(voice, {10})
    filled = repaired[10 * FRAME : 11 * FRAME]
    assert level_db(filled) == pytest.approx(level_db(voice), abs=3)
    assert steepest(repaired) < 1.5 * steepest(voice)
    error = repaired[10 * FRAME : 10 * FRAME + 80].astype(float) - voice[10 * FRAME : 10 * FRAME + 80]
    assert level_db(error.astype(np.int16)) < level_db(voice) - 10, "the first 10 ms continue the wave"


def test_a_long_loss_fades_into_silence() -> None:
    repaired = heard(tone(200, 0.6).samples, set(range(10, 20)))
    levels = [level_db(frame) for frame in frames(repaired)[10:20]]
    assert levels[0] > levels[1] > levels[2]
    assert levels[3:] == [-120] * 7
    assert steepest(repaired) < 2 * steepest(tone(200, 0.6).samples)


def test_undamaged_audio_is_not_touched() -> None:
    voice = tone(300, 0.3).samples
    assert np.array_equal(heard(voice, set()), voice)


def test_after_a_loss_only_the_crossfade_differs() -> None:
    voice = tone(150, 0.4).samples
    repaired = heard(voice, {10})
    assert np.array_equal(repaired[11 * FRAME + 40 :], voice[11 * FRAME + 40 :])
    assert not np.array_equal(repaired[11 * FRAME : 11 * FRAME + 40], voice[11 * FRAME : 11 * FRAME + 40])


def test_before_anything_was_heard_there_is_silence() -> None:
    assert level_db(Concealment(8000).conceal(FRAME)) == -120
