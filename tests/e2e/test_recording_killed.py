"""A process that records is killed (SIGKILL): how much of its calls is missing, and what the next start makes of it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from connector.record.formats import repair
from tests.fakes.recordings import FORMATS, played

RECORDS = """
import asyncio, json, sys, time
from pathlib import Path
import numpy as np
from connector.audio import Frame
from connector.record import Disk, Recording, load_format

async def main(folder, formats):
    voice = (6000 * np.sin(2 * np.pi * 440 * np.arange(160) / 8000)).astype(np.int16)
    disk = Disk()
    for format in formats:
        load_format(format)
    start = time.monotonic()
    recordings = [
        Recording(Path(folder) / f"{number}.{format}", start=start, disk=disk, on_error=print)
        for number in range(2) for format in formats
    ]
    for number in range(100_000):
        due = start + number * 0.02
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        for recording in recordings:
            recording.emitted(Frame(voice, 8000, number * 0.02), due)
            if number >= 3:  # the jitter buffer's delay
                recording.received(Frame(voice, 8000, (number - 3) * 0.02), due - 0.06)
        print(json.dumps((number + 1) * 0.02), flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2:]))
"""


@pytest.mark.parametrize("seconds", [0.9, 2.3])
async def test_a_kill_costs_less_than_a_second_in_every_format(tmp_path: Path, seconds: float) -> None:
    """Six calls, whose writes are due at different moments."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RECORDS, str(tmp_path), *FORMATS, stdout=asyncio.subprocess.PIPE
    )
    assert program.stdout is not None
    recorded = 0.0
    while recorded < seconds:
        recorded = json.loads(await program.stdout.readline())
    program.send_signal(signal.SIGKILL)
    told = (await program.stdout.read()).splitlines(keepends=True)
    recorded = max([recorded, *(json.loads(line) for line in told if line.endswith(b"\n"))])
    await program.wait()
    assert program.returncode == -signal.SIGKILL
    for path in [tmp_path / f"{number}.{suffix}" for number in range(2) for suffix in FORMATS]:
        missing = recorded - await asyncio.to_thread(_playable, path)
        assert missing <= 1.0, path
        await asyncio.to_thread(repair, path)
        repaired = await asyncio.to_thread(played, path)
        assert recorded - repaired.seconds <= 1.0
        assert repaired.stated == pytest.approx(repaired.seconds, abs=0.02)
        assert min(repaired.level(0, 0.1, 0.2), repaired.level(1, 0.1, 0.2)) > 3000


def _playable(path: Path) -> float:
    return played(path).seconds
