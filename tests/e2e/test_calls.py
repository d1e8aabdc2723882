"""`voxtrunk calls` and the API for calls, beside a real `voxtrunk serve`; what a killed one leaves."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio
from jsonschema.validators import Draft202012Validator
from yarl import URL

from connector.app import SystemClock
from connector.cli.phone.caller import Caller
from connector.cli.phone.own import own_phone
from connector.record import CallRecord
from tests.e2e import command
from tests.e2e.command import Finished
from tests.fakes.engines import tone
from tests.fakes.recordings import played
from tests.fakes.sip import Peer, header, sdp

ODD = "a%2f/../b?c#d@[2001:db8::1]"
"""A Call-ID that must be encoded to be a part of a path."""


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Place:
    """A folder with a configuration, and what is run in it."""

    folder: Path
    sip: int
    http: int

    @classmethod
    def of(cls, folder: Path, more: str = "") -> Place:
        place = cls(folder, free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM))
        (folder / "voxtrunk.yml").write_text(
            f"sip: {{listen: '127.0.0.1:{place.sip}'}}\nhttp: {{listen: '127.0.0.1:{place.http}'}}\n"
            f"media: {{ports: 31200-31299}}\nroutes:\n  - {{number: '1001', flavor: echo}}\n{more}"
        )
        return place

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await command.start("serve", "--drain", "0", cwd=self.folder)
        try:
            async with asyncio.timeout(20), aiohttp.ClientSession() as http:
                while True:
                    try:
                        async with http.get(f"{self.url}/readyz") as answer:
                            if answer.status == 200:
                                break
                    except aiohttp.ClientConnectionError:
                        pass
                    await asyncio.sleep(0.05)
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.communicate()

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[tuple[Caller, str]]:
        """Somebody who talks to the echo, and the Call-ID."""
        clock = SystemClock()
        async with own_phone(clock) as phone:
            leg = await phone.dial(f"sip:1001@127.0.0.1:{self.sip}", calling="alice")
            async with Caller(leg, clock) as caller:
                await caller.pause(0.2)
                yield caller, leg.info.call_id

    async def run(self, *arguments: str) -> Finished:
        return await command.run("calls", *arguments, cwd=self.folder)

    async def json(self, *arguments: str) -> Any:
        done = await self.run(*arguments, "--json")
        assert done.status == 0, done.errors
        return json.loads(done.output)

    async def recorded(self) -> list[CallRecord]:
        """The records there are by now."""
        return await asyncio.to_thread(
            lambda: [
                CallRecord.model_validate_json(path.read_text())
                for path in sorted(self.folder.glob("records/2*/*.cdr.json"))
            ]
        )

    async def record(self) -> CallRecord:
        """The one record, once it is there."""
        async with asyncio.timeout(10):
            while not (records := await self.recorded()):  # noqa: ASYNC110 - another process writes them
                await asyncio.sleep(0.05)
        (record,) = records
        return record


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.of(tmp_path)


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    # Paths are sent as they are: the tests encode them.
    async with aiohttp.ClientSession() as session:
        yield session


# --------------------------------------------------------------------------------------- the command


async def test_a_call_is_listed_shown_hung_up_and_looked_at_afterwards(place: Place) -> None:
    async with place.serving():
        async with place.calling() as (caller, call_id):
            await caller.say(tone(700, 0.3).samples)
            listed = await place.run("list")
            assert listed.status == 0
            assert call_id in listed.output
            assert "confirmed" in listed.output
            running = await place.run("show", call_id[:8])
            assert re.search("^state +confirmed$", running.output, re.M)
            assert "─ INVITE ─" in running.output
            assert (await place.json("show", call_id))["state"] == "confirmed"
            ended = await place.run("hangup", call_id[:8])
            assert ended.output == f"{call_id}: hung up\n"
            assert await caller.wait_for_end(3)
        record = await place.record()
        assert (record.ended_by.value, record.reason) == ("system", "hung up by the operator")
        assert (await place.run("list")).output == "There are no calls in progress.\n"
    shown = await place.run("show", call_id)
    assert shown.status == 0
    for part in (
        f"call id {call_id}",
        "calling alice",
        "flavor echo (number 1001)",
        "answered, by system: hung up by the operator",
        "media from the caller to the caller",
        "codec PCMU",
        "lost 0",
        "─ INVITE ─",
        " 100 Trying ─│",
        "─ BYE ─",
    ):
        assert part in re.sub(" +", " ", shown.output), shown.output
    assert CallRecord.model_validate(await place.json("show", call_id)) == record
    assert "PCMU" in next(step.note for step in record.signalling if step.message == "INVITE")
    assert [step.message for step in record.signalling if step.sent][:3] == ["100 Trying", "180 Ringing", "200 OK"]
    over = await place.run("list", "--ended", "--since", "1h")
    assert call_id in over.output
    assert [one["call_id"] for one in (await place.json("list", "--ended"))["records"]] == [call_id]


async def test_a_recording_is_paused_and_resumed_by_the_command(tmp_path: Path) -> None:
    """In a format of its own; the caller talks all the time."""
    place = Place.of(tmp_path, "records: {format: flac}\n")
    async with place.serving():
        async with place.calling() as (caller, call_id):
            await caller.say(tone(700, 1.0).samples)
            paused = await place.run("pause-recording", call_id[:8])
            assert paused.output == f"{call_id}: the recording is paused\n"
            assert (await place.json("pause-recording", call_id)) == {"call_id": call_id, "paused": True}
            await caller.say(tone(700, 0.6).samples)
            assert re.search("^not recorded +from [0-9.]+ s$", (await place.run("show", call_id)).output, re.M)
            resumed = await place.run("resume-recording", call_id[:8])
            assert resumed.output == f"{call_id}: the recording goes on\n"
            await caller.say(tone(700, 1.0).samples)
        record = await place.record()
        over = await place.run("pause-recording", call_id)
        assert over.status == 1
        assert "there is no call in progress" in over.errors
    (pause,) = record.pauses
    assert pause.end is not None
    assert record.files.recording is not None
    audio = await asyncio.to_thread(played, tmp_path / "records" / record.files.recording)
    assert audio.level(0, pause.start + 0.03, pause.end - 0.3) == 0  # a frame may be as early as the last one was late
    assert audio.level(1, pause.start + 0.03, pause.end - 0.3) == 0
    assert audio.level(0, 0.0, pause.start) > 100


async def test_the_api_says_what_became_of_a_wish_about_the_recording(
    place: Place, http: aiohttp.ClientSession
) -> None:
    async with place.serving():

        async def ask(call_id: str, wish: str) -> tuple[int, dict[str, Any]]:
            path = URL(f"{place.url}/v1/calls/{quote(call_id, safe='')}/recording/{wish}", encoded=True)
            async with http.post(path) as answer:
                return answer.status, await answer.json()

        async with place.calling() as (_, call_id):
            for wish, paused in (("resume", False), ("pause", True), ("pause", True), ("resume", False)):
                assert await ask(call_id, wish) == (200, {"call_id": call_id, "paused": paused})
            async with http.post(f"{place.url}/v1/calls/{quote(call_id, safe='')}/recording/erase") as unknown:
                assert unknown.status == 404
        await place.record()
        assert await ask(call_id, "pause") == (409, {"error": "the call is over"})
        assert await ask("nobody@test", "pause") == (404, {"error": "no call has this Call-ID"})


async def test_before_all_calls_are_hung_up_it_asks(place: Place) -> None:
    async with place.serving(), place.calling() as (one, first), place.calling() as (other, second):
        refused = await place.run("hangup", "--all")  # no terminal: nobody answers
        assert refused.status == 1
        assert "Hang up 2 calls?" in refused.errors
        assert {call["call_id"] for call in (await place.json("list"))["calls"]} == {first, second}
        assert set((await place.json("hangup", "--all", "--yes"))["hung_up"]) == {first, second}
        assert await one.wait_for_end(3)
        assert await other.wait_for_end(3)


@pytest.mark.parametrize("arguments", [("list",), ("hangup", "--all"), ("hangup", "x")])
async def test_without_a_connector_it_says_so(place: Place, arguments: tuple[str, ...]) -> None:
    done = await place.run(*arguments)
    assert done.status == 1
    assert f"no connector answers at {place.url} (Connection refused)" in done.errors
    assert "Traceback" not in done.errors


async def test_a_wrong_token_and_another_program_are_told_apart(tmp_path: Path) -> None:
    place = Place.of(tmp_path)
    path = tmp_path / "voxtrunk.yml"
    listen = f"http: {{listen: '127.0.0.1:{place.http}'"
    plain = path.read_text()
    (tmp_path / "token").write_text("s3cret")
    path.write_text(plain.replace(listen, f"{listen}, token: '${{file:{tmp_path / 'token'}}}'"))
    async with place.serving():
        assert (await place.run("list")).status == 0
        path.write_text(plain)
        refused = await place.run("list")
    assert refused.status == 1
    assert "answers 401" in refused.errors
    assert "http.token" in refused.errors
    for said in (b"", b"220 mail.example ESMTP\r\n", b"HTTP/1.0 200 OK\r\n\r\n{}", b"HTTP/1.0 200 OK\r\n\r\n<html>"):

        def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter, said: bytes = said) -> None:
            writer.write(said)
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", place.http):
            stranger = await place.run("list")
        assert stranger.status == 1
        assert place.url in stranger.errors
        assert "Traceback" not in stranger.errors


async def test_calls_that_there_are_not_and_mistakes(place: Place) -> None:
    missing = await place.run("show", "nothing")
    assert missing.status == 1
    assert missing.errors.startswith(
        "there is no call whose Call-ID is or begins with nothing\n"
        f"calls in progress are not known: no connector answers at {place.url}"
    )
    assert (await place.run("list", "--ended")).output == "There are no records of such calls.\n"
    for wrong in (("list", "--since", "soon"), ("list", "--limit", "0"), ("hangup",), ("list", "--pair", "b")):
        assert (await place.run(*wrong)).status == 2


# --------------------------------------------------------------------------------------- HTTP


async def test_a_call_id_may_hold_anything(place: Place, http: aiohttp.ClientSession) -> None:
    path = f"{place.url}/v1/calls/{quote(ODD, safe='')}"
    async with place.serving(), Peer.open() as phone:
        url = URL(path, encoded=True)
        phone.target = ("127.0.0.1", place.sip)
        uri = f"sip:1001@127.0.0.1:{place.sip}"
        phone.send(phone.compose("INVITE", call_id=ODD, body=sdp(), uri=uri, branch="z9hG4bK-odd"))
        ok = await phone.response(200, "INVITE")
        ack = phone.compose("ACK", call_id=ODD, to=header(ok, "To"), uri=uri, branch="z9hG4bK-odd-ack")
        phone.send(ack)
        await asyncio.sleep(0.2)
        async with http.get(url) as answer:
            running = await answer.json()
        assert (running["call_id"], running["state"]) == (ODD, "confirmed")
        assert [step["message"] for step in running["signalling"]][-1] == "ACK"
        async with http.delete(url) as answer:
            assert answer.status == 202
        await phone.request("BYE")
        await place.record()
        async with http.get(url) as answer:
            over = await answer.json()
        assert (over["call_id"], over["disposition"]) == (ODD, "answered")
        async with http.delete(url) as answer:
            assert answer.status == 409
        for method in ("GET", "DELETE"):
            async with http.request(method, f"{place.url}/v1/calls/nothing") as answer:
                assert (answer.status, await answer.json()) == (404, {"error": "no call has this Call-ID"})
        async with http.get(f"{place.url}/v1/openapi.json") as answer:
            description = await answer.json()
    schemas = description["components"]
    for name, instance in (("RunningCall", running), ("CallRecord", over)):
        Draft202012Validator({**schemas["schemas"][name], "components": schemas}).validate(instance)


async def test_no_page_of_another_origin_hangs_up(place: Place, http: aiohttp.ClientSession) -> None:
    async with place.serving():
        for headers, status in (
            ({}, 404),
            ({"Origin": "http://pages.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
            ({"Sec-Fetch-Site": "same-origin", "Origin": place.url}, 404),
        ):
            async with http.delete(f"{place.url}/v1/calls/x", headers=headers) as answer:
                assert answer.status == status, headers


async def test_records_are_asked_for_by_number_and_time(place: Place, http: aiohttp.ClientSession) -> None:
    async with place.serving():
        for query, status in (
            ("", 200),
            ("limit=1", 200),
            ("since=2026-11-20T10:00:00Z", 200),
            ("limit=0", 400),
            ("limit=many", 400),
            ("since=yesterday", 400),
            ("since=2026-11-20T10:00:00", 400),
            ("since=0001-01-01T00:00:00%2B14:00", 400),
            ("other=1", 400),
        ):
            async with http.get(URL(f"{place.url}/v1/records?{query}", encoded=True)) as answer:
                assert answer.status == status, query
                assert set(await answer.json()) == ({"records", "broken"} if status == 200 else {"error"})


# --------------------------------------------------------------------------------------- a crash


async def test_calls_of_a_connector_that_was_killed_have_their_records_after_the_restart(place: Place) -> None:
    async with place.serving() as process, place.calling() as (caller, call_id):
        await caller.say(tone(700, 2.5).samples)
        killed = datetime.now(UTC)
        process.kill()
        await process.wait()
    assert await place.recorded() == []
    async with place.serving():
        record = await place.record()
        assert record.call_id == call_id
    assert (record.disposition.value, record.ended_by.value) == ("answered", "system")
    assert record.reason.startswith("cut off")
    assert abs((record.ended - killed).total_seconds()) < 1.5
    assert record.answered is not None
    assert record.duration_seconds == pytest.approx((record.ended - record.answered).total_seconds(), abs=0.002)
    assert record.duration_seconds > 2
    assert [step.message for step in record.signalling][:2] == ["INVITE", "100 Trying"]
    assert record.files.recording is not None
    seconds = await asyncio.to_thread(duration, place.folder / "records" / record.files.recording)
    assert 2.0 < seconds < 4.0
    left = await asyncio.to_thread(lambda: list(place.folder.glob("records/.running/*")))
    assert left == []


async def test_of_two_connectors_with_one_folder_the_living_one_keeps_its_calls(tmp_path: Path) -> None:
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
    shared = f"records: {{directory: {tmp_path / 'records'}}}\n"
    one, other = (Place.of(folder, shared) for folder in folders)
    async with one.serving() as doomed, other.serving():
        async with other.calling() as (alive, living):
            async with one.calling() as (_, cut):
                doomed.kill()
                await doomed.wait()
            async with one.serving():
                found = await asyncio.wait_for(ended(one, 1), 10)
                assert found == [cut]
                assert [call["call_id"] for call in (await other.json("list"))["calls"]] == [living]
            assert await ended(one, 1) == [cut]
            await alive.pause(0.1)
        assert sorted(await asyncio.wait_for(ended(one, 2), 10)) == sorted([cut, living])


async def ended(place: Place, count: int) -> list[str]:
    """The Call-IDs of the records, once there are `count`."""
    while True:
        records = (await place.json("list", "--ended"))["records"]
        if len(records) >= count:
            return [record["call_id"] for record in records]


def duration(recording: Path) -> float:
    with wave.open(str(recording)) as file:
        return file.getnframes() / file.getframerate()
