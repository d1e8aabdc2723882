"""`python -m bench.stt` on a checkpoint that takes milliseconds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.stt.__main__ import Figures, Row, compared, faults, ours, plain, table, typical
from connector.audio import Audio
from connector.cli.bench.media.whisper import Size, build

NOISE = Audio(np.random.default_rng(2).normal(0, 1000, 8000).astype(np.int16), 8000)
CHOSEN: dict[str, Any] = {"device": "cpu", "compute_type": "int8", "cpu_threads": 1}


async def test_both_systems_hear_the_same_and_are_measured(tmp_path: Path) -> None:
    await asyncio.to_thread(build, tmp_path, Size(2, 2, 64, decoder_layers=1, mels=128), 5)
    async with ours(str(tmp_path), 10.0, 16, CHOSEN) as our_recognise, plain(str(tmp_path), CHOSEN) as plain_recognise:
        row = await compared("micro", 1.0, 3, our_recognise, plain_recognise, repeat=1)
        assert (await our_recognise(NOISE)).count("token") == 5
    assert row.words_equal
    for figures in (row.ours, row.plain):
        assert 0 < figures.median_ms <= figures.last_ms
        assert figures.cost_ms > 0


def test_the_median_of_several_bursts_counts() -> None:
    bursts = [Figures(10, 20, 5), Figures(12, 18, 9), Figures(90, 99, 6)]
    assert typical(bursts) == Figures(12, 20, 6)


def test_the_table_tells_ratios_and_different_words(capsys: pytest.CaptureFixture[str]) -> None:
    row = Row("base", 3.0, 10, Figures(100, 200, 50), Figures(900, 1800, 400), words_equal=False)
    assert (row.cost_ratio, row.wait_ratio) == (8, 9)
    table([row])
    printed = capsys.readouterr().out
    assert "8.0" in printed
    assert "DIFFERENT" in printed


@pytest.mark.parametrize(
    ("limits", "seconds", "calls", "cost", "expected"),
    [
        ("cpu", 3.0, 10, 101, ["costs 4.0 times less than plain (at least 4)"]),
        ("cpu", 3.0, 10, 100, []),
        ("cpu", 5.0, 10, 101, []),
        ("gpu", 5.0, 1, 101, ["the median caller waits 61 ms (at most 60)"]),
        ("gpu", 5.0, 50, 101, []),
        ("none", 3.0, 1, 101, []),
    ],
)
def test_a_missed_limit_is_told(limits: str, seconds: float, calls: int, cost: float, expected: list[str]) -> None:
    row = Row("turbo", seconds, calls, Figures(61, 70, cost), Figures(900, 1800, 400), words_equal=True)
    assert [line.split(": ")[-1].removeprefix("an utterance ") for line in faults(row, limits)] == expected
