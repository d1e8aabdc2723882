"""`voxtrunk serve` as a process: what it prints, how it stops, what it says when it cannot start."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from connector.app import SystemClock
from connector.cli.phone.caller import Caller
from connector.cli.phone.own import own_phone
from tests.fakes.engines import tone


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Place:
    """A folder with a configuration."""

    def __init__(self, folder: Path) -> None:
        self.sip = free_port(socket.SOCK_DGRAM)
        self.http = free_port(socket.SOCK_STREAM)
        self.file = folder / "voxtrunk.yml"
        self.file.write_text(
            f"sip: {{listen: '127.0.0.1:{self.sip}'}}\n"
            f"http: {{listen: '127.0.0.1:{self.http}'}}\n"
            "media: {ports: 31100-31199}\n"
            f"records: {{directory: {folder / 'records'}}}\n"
            "routes:\n  - {number: '1001', flavor: echo}\n"
        )

    async def run(self, *options: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from connector.cli import main; main()",
            "serve",
            "-c",
            str(self.file),
            *options,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    def recorded(self) -> float:
        """Seconds of the one recording there is."""
        (recording,) = self.file.parent.glob("records/*/*.wav")
        with wave.open(str(recording)) as file:
            return file.getnframes() / file.getframerate()

    async def ready(self) -> None:
        async with asyncio.timeout(20), aiohttp.ClientSession() as http:
            while True:
                try:
                    async with http.get(f"http://127.0.0.1:{self.http}/readyz") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientConnectionError:
                    pass
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def serving(self, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await self.run(*options)
        try:
            await self.ready()
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[Caller]:
        clock = SystemClock()
        async with own_phone(clock) as phone:
            leg = await phone.dial(f"sip:1001@127.0.0.1:{self.sip}", calling="alice")
            async with Caller(leg, clock) as caller:
                yield caller


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_it_says_what_to_dial_and_reports_each_call(place: Place) -> None:
    async with place.serving() as process:
        async with place.calling() as caller:
            said = await caller.say(tone(700, 0.5).samples)
            assert await caller.wait_for_speech(2, after=said.start) is not None
        process.send_signal(signal.SIGTERM)
        output, log = (text.decode() for text in await process.communicate())
    assert process.returncode == 0
    assert f"Listening for SIP on 127.0.0.1:{place.sip} (UDP)" in output
    assert f"sip:1001@127.0.0.1:{place.sip}  echo" in output
    assert "alice → 1001: answered, ended by caller: hung up" in output
    assert ".wav" in output
    assert "INFO call answered call_id=" in log
    assert "Traceback" not in log


async def test_json_gives_one_line_for_each_call_and_a_log_of_objects(place: Place) -> None:
    async with place.serving("--json", "--log-json") as process:
        for _ in range(2):
            async with place.calling() as caller:
                await caller.pause(0.1)
        process.send_signal(signal.SIGTERM)
        output, log = await process.communicate()
    records = [json.loads(line) for line in output.decode().splitlines()]
    assert [(record["called"], record["disposition"]) for record in records] == [("1001", "answered")] * 2
    entries = [json.loads(line) for line in log.decode().splitlines()]
    answered = [entry for entry in entries if entry["message"] == "call answered"]
    assert [entry["call_id"] for entry in answered] == [record["call_id"] for record in records]


async def test_sigterm_lets_the_call_end_and_a_second_one_ends_it(place: Place) -> None:
    async with place.serving("--json", "--drain", "60") as process, place.calling() as caller:
        await caller.pause(0.2)
        process.send_signal(signal.SIGTERM)
        said = await caller.say(tone(700, 0.5).samples)
        assert await caller.wait_for_speech(2, after=said.start) is not None
        process.send_signal(signal.SIGTERM)
        assert await caller.wait_for_end(3)
        output, _ = await process.communicate()
    (record,) = [json.loads(line) for line in output.decode().splitlines()]
    assert (record["ended_by"], record["reason"]) == ("system", "shutting down")
    assert process.returncode == 0


async def test_a_crash_loses_at_most_a_second_of_the_recording(place: Place) -> None:
    async with place.serving() as process, place.calling() as caller:
        await caller.say(tone(700, 3.0).samples)
        process.kill()
        await process.wait()
        seconds = await asyncio.to_thread(place.recorded)
    assert 2.0 < seconds < 4.0


async def test_the_log_begins_with_what_is_odd_and_the_ports_that_were_had(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.file.write_text(
        "sip: {listen: '127.0.0.1:0'}\nhttp: {listen: '127.0.0.1:0'}\nmedia: {ports: 20000-20009}\n"
        "routes:\n  - {number: '1', flavor: echo}\n  - {number: '1', flavor: echo}\n"
    )
    process = await place.run("--log-json")
    assert process.stderr is not None
    entries = [json.loads(await process.stderr.readline()) for _ in range(3)]
    process.terminate()
    await process.communicate()
    assert [entry["level"] for entry in entries] == ["warning", "warning", "info"]
    assert "room for 5 calls at once" in entries[0]["warning"]
    assert "number 1 never answers" in entries[1]["warning"]
    assert entries[2]["message"] == "listening"
    for address in (entries[2]["sip"], entries[2]["http"]):
        assert int(address.removeprefix("127.0.0.1:")) > 0


@pytest.mark.parametrize(("kind", "key"), [(socket.SOCK_DGRAM, "sip.listen"), (socket.SOCK_STREAM, "http.listen")])
async def test_a_port_that_is_taken_is_named_with_who_holds_it(place: Place, kind: socket.SocketKind, key: str) -> None:
    port = place.sip if kind is socket.SOCK_DGRAM else place.http
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind(("127.0.0.1", port))
        if kind is socket.SOCK_STREAM:
            holder.listen()
        process = await place.run()
        log = (await process.communicate())[1].decode()
    assert process.returncode == 1
    assert "Traceback" not in log
    assert f"port {port} is taken by " in log
    assert "(pid " in log
    assert key in log


async def test_a_mistake_in_the_file_is_told_before_anything_starts(place: Place) -> None:
    process = await place.run("--listen", "nonsense")
    log = (await process.communicate())[1].decode()
    assert process.returncode == 1
    assert "sip.listen" in log
    assert "Traceback" not in log
