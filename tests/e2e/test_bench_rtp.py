"""`voxtrunk bench rtp`: legs of plain RTP for whoever sends."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from connector.audio import Samples
from connector.codec.g711 import MuLaw
from tests.e2e.command import run, start
from tests.fakes.engines import tone


class Generator:
    """Sends PCMU to one port, a packet each 20 ms, and keeps what comes back."""

    def __init__(self, port: int, hertz: float) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.connect(("127.0.0.1", port))
        self._socket.setblocking(False)
        self._codec = MuLaw()
        self.tone = tone(hertz, 1.0).samples
        self.ssrc = round(hertz)
        self.received: list[bytes] = []

    def send(self, number: int) -> None:
        payload = self._codec.encode(self.tone[number % 50 * 160 :][:160])
        self._socket.send(struct.pack("!BBHII", 0x80, 0, number, number * 160, self.ssrc) + payload)
        while True:
            try:
                self.received.append(self._socket.recv(2048))
            except BlockingIOError:
                return

    def heard(self) -> Samples:
        return np.concatenate([self._codec.decode(packet[12:]) for packet in self.received])

    def close(self) -> None:
        self._socket.close()


async def exchange(generators: list[Generator], packets: int) -> None:
    """All generators send `packets` packets in step."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    for number in range(packets):
        for generator in generators:
            generator.send(number)
        await asyncio.sleep(max(0.0, start + (number + 1) * 0.02 - loop.time()))


@asynccontextmanager
async def bench(*options: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, list[int]]]:
    """Runs the command and reads its one line."""
    process = await start("bench", "rtp", *options)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            line = await process.stdout.readline()
        yield process, json.loads(line)["ports"]
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            rest, _ = await process.communicate()
        assert rest == b""
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def loudest(samples: Samples) -> float:
    spectrum = np.abs(np.fft.rfft(samples.astype(float)))
    return float(np.fft.rfftfreq(len(samples), 1 / 8000)[np.argmax(spectrum)])


async def test_each_leg_echoes_its_own_caller_one_after_another() -> None:
    async with bench("--calls", "4", "--flavor", "echo") as (_, ports):
        assert len(set(ports)) == 4
        for base in (400.0, 1400.0):  # the second round finds the ports ready again
            generators = [Generator(port, base + 200 * index) for index, port in enumerate(ports)]
            await exchange(generators, 75)
            for index, generator in enumerate(generators):
                assert len(generator.received) > 55
                assert abs(loudest(generator.heard()[4000:]) - (base + 200 * index)) < 10
                generator.close()
            await asyncio.sleep(3)


async def test_ports_are_where_they_were_asked_for() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        base = min(probe.getsockname()[1] // 2 * 2, 65_000)
    async with bench("--calls", "3", "--base-port", str(base)) as (_, ports):
        assert ports == [base, base + 2, base + 4]


async def test_an_unknown_flavor_is_refused_with_the_known_ones() -> None:
    finished = await run("bench", "rtp", "--flavor", "ecoh")
    assert finished.status == 1
    assert "echo" in finished.errors
    assert finished.output == ""
