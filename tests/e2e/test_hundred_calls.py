"""A hundred calls at once from SIPp to a real `voxtrunk serve`: each hears itself, and nobody else."""

from __future__ import annotations

import asyncio
import json
import random
import wave
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from connector.app import SystemClock
from connector.audio import Samples
from tests.e2e import command, sipp
from tests.fakes.audio import rtp_stream, tone
from tests.fakes.rtp_peer import RtpPeer
from tests.fakes.sip import free_udp_port

pytestmark = pytest.mark.skipif(sipp.missing_reason() is not None, reason=str(sipp.missing_reason()))

CALLS = 100
HOLD_SECONDS = 8.0
"""From a call's answer to its BYE."""
CALLS_PER_SECOND = 25
SPEECH_SECONDS = 2.5

CONFIG = """
sip: {{listen: "127.0.0.1:{sip}", max_calls: {calls}}}
media: {{ports: "{first}-{last}"}}
records: {{directory: records}}
http: {{listen: "127.0.0.1:0"}}
routes:
  - {{number: "1001", flavor: echo}}
"""


def frequency(call: int) -> float:
    """A tone for each call, 20 Hz apart."""
    return 400.0 + 20.0 * call


@asynccontextmanager
async def serving(folder: Path, port: int) -> AsyncIterator[None]:
    first = random.randrange(20_000, 30_000, 2)
    config = CONFIG.format(sip=port, calls=CALLS, first=first, last=first + 4 * CALLS)
    await asyncio.to_thread((folder / "voxtrunk.yml").write_text, config)
    process = await command.start("serve", "--json", cwd=folder)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(20):
            while f":{port}" not in (await process.stderr.readline()).decode():
                assert process.returncode is None
        draining = asyncio.create_task(process.stderr.read())
        assert process.stdout is not None
        talking = asyncio.create_task(process.stdout.read())
        yield
        process.terminate()
        await asyncio.gather(draining, talking, process.wait())
        assert process.returncode == 0, draining.result().decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def talk(peer: RtpPeer, answered: int, hertz: float) -> None:
    """Says the call's tone to the port that answered."""
    await peer.stream(rtp_stream(tone(hertz, SPEECH_SECONDS)), ("127.0.0.1", answered), SystemClock())


def channels(record: Path) -> tuple[str, Samples, Samples]:
    """SIP Call-ID, left and right channel of a call's recording."""
    cdr = json.loads(record.read_text())
    with wave.open(str(record.parents[1] / cdr["files"]["recording"])) as file:
        left, right = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2).T
    return cdr["call_id"], left, right


def loud(samples: Samples) -> Samples:
    """The stretch of `samples` between the first and the last loud one, less its edges."""
    found = np.flatnonzero(np.abs(samples.astype(np.int32)) > 2000)
    assert len(found), "nothing was heard"
    return samples[found[0] + 800 : found[-1] - 800]


def dominant(samples: Samples) -> float:
    """The strongest frequency, Hz."""
    spectrum = np.abs(np.fft.rfft(samples.astype(np.float64)))
    return float(np.fft.rfftfreq(len(samples), 1 / 8000)[np.argmax(spectrum)])


def share(samples: Samples, hertz: float) -> float:
    """How much of the power lies within 30 Hz of `hertz`."""
    power = np.abs(np.fft.rfft(samples.astype(np.float64))) ** 2
    near = np.abs(np.fft.rfftfreq(len(samples), 1 / 8000) - hertz) < 30
    return float(power[near].sum() / power.sum())


async def test_a_hundred_calls_at_once_hear_themselves_and_nobody_else(tmp_path: Path) -> None:
    port = free_udp_port()
    log = tmp_path / "answered"
    async with AsyncExitStack() as stack:
        peers = [stack.enter_context(RtpPeer()) for _ in range(CALLS)]
        offered = {peer.local[1]: call for call, peer in enumerate(peers)}
        injected = tmp_path / "ports.csv"
        await asyncio.to_thread(injected.write_text, "SEQUENTIAL\n" + "".join(f"{port}\n" for port in offered))
        await stack.enter_async_context(serving(tmp_path, port))
        async with asyncio.TaskGroup() as tasks:
            options = ("-s", "1001", "-inf", str(injected), "-trace_logs", "-log_file", str(log), "-l", str(CALLS))
            hold = round(HOLD_SECONDS * 1000)
            calling = tasks.create_task(
                sipp.call("media", ("127.0.0.1", port), *options,
                          calls=CALLS, rate=CALLS_PER_SECOND, hold=hold)
            )  # fmt: skip
            talking: set[int] = set()
            while len(talking) < CALLS:
                await asyncio.sleep(0.05)
                assert not calling.done(), f"SIPp ended after {len(talking)} calls"
                for line in (await asyncio.to_thread(_read, log)).splitlines():
                    mine, theirs = map(int, line.split())
                    if mine not in talking:
                        talking.add(mine)
                        call = offered[mine]
                        tasks.create_task(talk(peers[call], theirs, frequency(call)))
        heard = [peer.heard() for peer in peers]

    for call, samples in enumerate(heard):
        echo = loud(samples)
        # Concealment lets the tone fade out at its end; frames that a busy machine made late lengthen it too.
        assert SPEECH_SECONDS - 0.4 < len(echo) / 8000 < SPEECH_SECONDS + 0.4, f"call {call}"
        assert dominant(echo) == pytest.approx(frequency(call), abs=5), f"call {call}"
        # A frame that a busy machine made late shifts the phase, so the tone is looked for in its neighbourhood.
        assert share(echo, frequency(call)) > 0.9, f"call {call}"

    records = await asyncio.to_thread(lambda: sorted((tmp_path / "records").rglob("*.json")))
    recorded = [await asyncio.to_thread(channels, record) for record in records]
    assert len({call_id for call_id, _, _ in recorded}) == CALLS
    tones = sorted(dominant(loud(left)) for _, left, _ in recorded)
    assert tones == pytest.approx([frequency(call) for call in range(CALLS)], abs=5)
    for call_id, left, right in recorded:
        assert dominant(loud(right)) == pytest.approx(dominant(loud(left)), abs=5), call_id


def _read(log: Path) -> str:
    """Whole lines of SIPp's log so far."""
    text = log.read_text() if log.exists() else ""
    return text[: text.rfind("\n") + 1]
