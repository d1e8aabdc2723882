"""The connector's leg at a real UA OpenSIPS with the product's ua.cfg, callers straight at the UA.

After each test OpenSIPS must have no session left.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from connector.app import SystemClock
from connector.audio import Audio, Frame
from connector.config.model import MediaSettings, PairSettings
from connector.errors import CallFailed
from connector.interfaces import Digit, Established, Held, Leg, Party, Resumed, Terminated
from connector.leg.embedded import EmbeddedEndpoint
from connector.leg.opensips import OpenSipsEndpoint
from connector.leg.sip_leg import SipLeg
from connector.mi.client import MiClient
from connector.mi.sessions import UaSessions
from connector.sip.bodies import DTMF_RELAY
from connector.sip.message import Address
from connector.stack.programs import OpenSips
from connector.udp.ticker import Ticker
from tests.e2e import sipp
from tests.e2e.opensips import Installed, installations
from tests.fakes.sip import Inbox, Peer, free_udp_port, header, media_ports, next_event, running, sdp

START_SECONDS = 20.0
"""A new UA refuses calls for less than that."""

SCRIPT = Path(__file__).parents[2] / "opensips" / "ua.cfg"


@dataclass
class Ua:
    """A running UA OpenSIPS. `pair`: its addresses."""

    program: OpenSips
    folder: Path
    pair: PairSettings
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> Address:
        host, port = self.pair.listen.split(":")
        return host, int(port)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.program.path), "-f", "ua.cfg", "-F", "-m", "64"],
                cwd=self.folder,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def stop(self, number: int = signal.SIGTERM) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)
        self.process.wait(10)


@contextmanager
def ua_in(folder: Path, installed: Installed) -> Iterator[Ua]:
    if installed.opensips is None:
        pytest.skip(installed.missing)
    listen, mi, events = (f"127.0.0.1:{free_udp_port()}" for _ in range(3))
    folder.mkdir(exist_ok=True)
    (folder / "ua.cfg").write_bytes(SCRIPT.read_bytes())
    (folder / "modules.cfg").write_text("".join(f'mpath="{path}/"\n' for path in installed.opensips.modules))
    (folder / "ua-site.cfg").write_text(
        f"socket=udp:{listen}\n"
        f'modparam("mi_datagram", "socket_name", "udp:{mi}")\n'
        f'modparam("cfgutils", "shvset", "events=s:udp:{events}")\n'
        'modparam("cfgutils", "shvset", "edges=s:^127[.]0[.]0[.]1$")\n'
        "route[trace] {\n\treturn;\n}\n"
    )
    ua = Ua(installed.opensips, folder, PairSettings(listen=listen, mi=mi, events=events))
    ua.start()
    try:
        yield ua
    finally:
        ua.stop()


@pytest.fixture(scope="module", params=installations(), ids=str)
def ua(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ua]:
    """One UA for all tests of a release: each test is a new connector at it."""
    with ua_in(tmp_path_factory.mktemp("ua"), request.param) as ua:
        yield ua


@dataclass
class Connector:
    """Our endpoint at a UA."""

    endpoint: OpenSipsEndpoint
    inbox: Inbox
    sessions: UaSessions
    uri: str

    async def next(self) -> SipLeg:
        leg = await self.inbox.next()
        assert isinstance(leg, SipLeg)
        return leg

    async def ready(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                while self.endpoint.problem:  # noqa: ASYNC110  (so do those who ask /readyz)
                    await asyncio.sleep(0.05)
        assert not self.endpoint.problem

    async def nothing_left(self) -> None:
        async with asyncio.timeout(5):
            while await self.sessions.all():  # noqa: ASYNC110  (OpenSIPS tells nobody)
                await asyncio.sleep(0.05)


@asynccontextmanager
async def connector_at(ua: Ua) -> AsyncIterator[Connector]:
    clock = SystemClock()
    ticker, inbox, mi = Ticker(clock), Inbox(), MiClient(_address(ua.pair.mi), clock)
    endpoint = OpenSipsEndpoint(
        ua.pair,
        MediaSettings(timeout=20),
        max_calls=200,
        retry_after=5,
        clock=clock,
        ticker=ticker,
        ports=media_ports(),
        on_call=inbox,
    )
    ticking = asyncio.create_task(ticker.run())
    await endpoint.start()
    mi.open()
    connector = Connector(endpoint, inbox, UaSessions(mi, _address(ua.pair.listen)), f"sip:1000@{ua.pair.listen}")
    try:
        await connector.ready()
        yield connector
        await connector.nothing_left()
    finally:
        await endpoint.aclose()
        mi.close()
        ticking.cancel()
        await asyncio.wait({ticking})


def _address(text: str) -> Address:
    host, port = text.split(":")
    return host, int(port)


async def hears_tone(speaker: Leg, listener: Leg) -> None:
    heard = asyncio.Event()

    def take(frame: Frame) -> None:
        if np.abs(frame.samples).max() > 1000:
            heard.set()

    listener.audio.listen(take)
    speaker.audio.write(1, Audio((8000 * np.sin(np.arange(16000) / 3)).astype(np.int16), 8000))
    speaker.audio.finish(1)
    async with asyncio.timeout(3):
        await heard.wait()


async def test_calls_with_audio_keys_hold_and_both_byes(ua: Ua) -> None:
    async with connector_at(ua) as connector, running() as phone:
        for they_hang_up in (True, False):
            dialling = asyncio.create_task(phone.endpoint.dial(connector.uri, calling="+4930987654"))
            leg = await connector.next()
            assert (leg.info.called, leg.info.calling_number) == ("1000", "+4930987654")
            await leg.ring()
            await leg.answer()
            theirs = await dialling
            assert [await next_event(leg), await next_event(theirs)] == [Established(), Established()]
            await hears_tone(leg, theirs)
            await hears_tone(theirs, leg)
            for holding, held in ((leg, theirs), (theirs, leg)):
                await holding.hold()
                assert await next_event(held) == Held()
                await holding.resume()
                assert await next_event(held) == Resumed()
            await theirs.send_dtmf("5")
            assert await next_event(leg) == Digit("5", 0.1)
            await leg.send_dtmf("7")
            assert await next_event(theirs) == Digit("7", 0.1)
            await (theirs if they_hang_up else leg).hang_up()
            by = Party.CALLER if they_hang_up else Party.AGENT
            ended = await next_event(leg, Terminated)
            assert isinstance(ended, Terminated)
            assert ended.by is by


async def test_a_cancelled_call(ua: Ua) -> None:
    async with connector_at(ua) as connector, running() as phone:
        dialling = asyncio.create_task(phone.endpoint.dial(connector.uri))
        leg = await connector.next()
        await leg.ring()
        await asyncio.sleep(0.1)
        dialling.cancel()
        assert await next_event(leg) == Terminated(Party.CALLER, "cancelled", 487)


@pytest.mark.parametrize(("status", "reason"), [(404, "Not Found"), (486, "Busy Here"), (503, "Service Unavailable")])
async def test_a_refused_call(ua: Ua, status: int, reason: str) -> None:
    async with connector_at(ua) as connector, Peer.open() as phone:
        phone.target = ua.address
        phone.send(phone.compose("INVITE", body=sdp(), call_id=f"refused-{status}-{time.time_ns()}"))
        leg = await connector.next()
        await leg.reject(status, reason, 7)
        refusal = await phone.response(status)
        assert refusal.phrase == reason
        assert header(refusal, "Retry-After") == "7"
        await connector.nothing_left()
        call_id, branch = header(refusal, "Call-ID"), header(refusal, "Via").partition("branch=")[2]
        phone.send(phone.compose("ACK", to=header(refusal, "To"), call_id=call_id, branch=branch))
        await asyncio.sleep(0.3)
        copies = phone.count(status, "INVITE")
        await asyncio.sleep(2.5)
        assert phone.count(status, "INVITE") == copies, "the refusal is repeated after its ACK"


async def test_a_call_without_a_codec_of_ours_is_refused_488(ua: Ua) -> None:
    async with connector_at(ua) as connector, Peer.open() as phone:
        phone.target = ua.address
        phone.send(phone.compose("INVITE", body=sdp(formats="18"), call_id=f"g729-{time.time_ns()}"))
        assert "PCMU" in header(await phone.response(488), "Warning")
        assert connector.inbox.legs.empty()


async def test_requests_within_a_call(ua: Ua) -> None:
    """Re-INVITE with and without SDP, moved media, UPDATE, INFO, OPTIONS, an offer that we cannot meet, REFER."""
    async with connector_at(ua) as connector, Peer.open() as phone:
        phone.target = ua.address
        call_id = f"within-{time.time_ns()}"
        leg, to = await phone.call(connector.inbox, call_id=call_id)
        assert isinstance(leg, SipLeg)
        sequence = iter(range(2, 100))

        async def ask(method: str, status: int, body: str = "", headers: str = "", ack: str = "") -> str:
            number = next(sequence)
            phone.send(phone.compose(method, to=to, cseq=number, call_id=call_id, body=body, headers=headers))
            answer = await phone.response(status, method)
            if method == "INVITE":
                branch = f"z9hG4bK-{call_id}-{number}-" + ("INVITE" if status >= 300 else "ACK")
                phone.send(phone.compose("ACK", to=to, cseq=number, call_id=call_id, body=ack, branch=branch))
                await asyncio.sleep(0.05)
            return answer.body.decode()

        assert "a=sendrecv" in await ask("INVITE", 200, sdp(port=42000, formats="8 101"))
        assert leg.agreement is not None
        assert (leg.agreement.port, leg.agreement.codec) == (42000, "PCMA")
        assert "m=audio" in await ask("INVITE", 200, ack=sdp(port=42002, formats="0 101"))
        assert leg.agreement.port == 42002
        before = leg.agreement
        await ask("INVITE", 488, sdp(formats="18"))
        assert leg.agreement == before
        assert "a=recvonly" in await ask("UPDATE", 200, sdp(port=42002, direction="sendonly"))
        assert await next_event(leg) == Held()
        await ask("INVITE", 200, sdp(port=42002))
        assert await next_event(leg) == Resumed()
        await ask("OPTIONS", 200)
        await ask("INFO", 200, "Signal=9\r\nDuration=120\r\n", f"Content-Type: {DTMF_RELAY}\r\n")
        assert await next_event(leg) == Digit("9", 0.12)
        await ask("MESSAGE", 405)

        transfer = asyncio.create_task(leg.transfer("2000"))
        refer = await phone.request("REFER")
        assert header(refer, "Refer-To").startswith("<sip:2000@127.0.0.1:")
        assert header(refer, "Referred-By") == f"<sip:voxtrunk@{ua.pair.listen}>"
        phone.answer(refer, 202, tag="phone")
        await ask("NOTIFY", 200, "SIP/2.0 200 OK\r\n", "Event: refer\r\nContent-Type: message/sipfrag\r\n")
        await transfer
        await phone.request("BYE")


async def test_a_bye_that_meets_an_unacknowledged_reinvite(ua: Ua) -> None:
    async with connector_at(ua) as connector, Peer.open() as phone:
        phone.target = ua.address
        call_id = f"crossing-{time.time_ns()}"
        leg, to = await phone.call(connector.inbox, call_id=call_id)
        phone.send(phone.compose("INVITE", to=to, cseq=2, call_id=call_id, body=sdp(port=42000)))
        await phone.response(200, "INVITE")
        phone.send(phone.compose("BYE", to=to, cseq=3, call_id=call_id))
        assert await next_event(leg, Terminated) == Terminated(Party.CALLER, "hung up")


async def test_our_reinvite_and_info_to_a_phone_without_telephone_events(ua: Ua) -> None:
    async with connector_at(ua) as connector, Peer.open() as phone:
        phone.target = ua.address
        call_id = f"ours-{time.time_ns()}"
        bare = "".join(line + "\r\n" for line in sdp(formats="0").splitlines() if "101" not in line)
        leg, to = await phone.call(connector.inbox, call_id=call_id, body=bare)
        hold = asyncio.create_task(leg.hold())
        invite = await phone.request("INVITE")
        assert b"a=sendonly" in invite.body
        phone.answer(invite, 491, tag="phone")
        again = await phone.request("INVITE")
        phone.answer(again, 200, tag="phone", body=bare.replace("sendrecv", "recvonly"))
        await hold
        await phone.request("ACK")
        press = asyncio.create_task(leg.send_dtmf("3"))
        info = await phone.request("INFO")
        assert (header(info, "Content-Type"), info.body[:8]) == (DTMF_RELAY, b"Signal=3")
        phone.answer(info, 200, tag="phone")
        await press
        phone.send(phone.compose("BYE", to=to, cseq=2, call_id=call_id))
        assert await next_event(leg) == Terminated(Party.CALLER, "hung up")


async def test_outgoing_calls(ua: Ua) -> None:
    async with connector_at(ua) as connector, running() as phone:
        dialling = asyncio.create_task(connector.endpoint.dial(phone.uri("200"), calling="1000"))
        theirs = await phone.inbox.next()
        assert theirs.info.calling == "1000"
        await theirs.ring()
        await theirs.answer()
        leg = await dialling
        assert await next_event(leg) == Established()
        await hears_tone(leg, theirs)
        await leg.hang_up()
        assert await next_event(theirs, Terminated) == Terminated(Party.CALLER, "hung up")

        dialling = asyncio.create_task(connector.endpoint.dial(phone.uri("200")))
        theirs = await phone.inbox.next()
        await theirs.ring()
        await asyncio.sleep(0.1)
        dialling.cancel()
        assert await next_event(theirs) == Terminated(Party.CALLER, "cancelled", 487)

        dialling = asyncio.create_task(connector.endpoint.dial(phone.uri("200")))
        await (await phone.inbox.next()).reject(486, "Busy Here")
        with pytest.raises(CallFailed, match="486 Busy Here"):
            await dialling


async def test_what_the_ua_answers_by_itself(ua: Ua) -> None:
    async with connector_at(ua), Peer.open() as phone:
        phone.target = ua.address
        call_id = f"alone-{time.time_ns()}"
        gone, stray = (f"<sip:1000@{ua.pair.listen}>;tag={tag}" for tag in ("B2B.1.2.3.4", "nobody"))
        expected = [
            ("OPTIONS", "", 200),
            ("REGISTER", "", 405),
            ("INFO", gone, 481),
            ("INFO", stray, 481),
            ("BYE", gone, 200),
            ("BYE", stray, 481),
            ("CANCEL", "", 481),
        ]
        for number, (method, to, status) in enumerate(expected):
            phone.send(phone.compose(method, to=to, cseq=number + 1, call_id=call_id))
            await phone.response(status, method)

        stranger = Peer(target=ua.address)
        stranger.transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: stranger, local_addr=("127.0.0.2", 0)
        )
        try:
            for method in ("INVITE", "OPTIONS"):
                stranger.send(stranger.compose(method, call_id=f"{call_id}-{method}"))
                await stranger.response(403, method)
        finally:
            stranger.transport.close()
            await asyncio.sleep(0)


@pytest.mark.skipif(sipp.missing_reason() is not None, reason=str(sipp.missing_reason()))
async def test_many_short_calls_leave_nothing(ua: Ua) -> None:
    async with connector_at(ua) as connector:

        async def serve() -> None:
            while True:
                await (await connector.next()).answer()

        serving = asyncio.create_task(serve())
        await sipp.call("uac", ua.address, calls=60, rate=20)
        serving.cancel()
        await asyncio.wait({serving})
        assert connector.endpoint.calls == 0


@pytest.mark.slow
async def test_a_ua_that_stalls_loses_no_call(ua: Ua) -> None:
    async with connector_at(ua) as connector, running() as phone:
        dialling = asyncio.create_task(phone.endpoint.dial(connector.uri))
        leg = await connector.next()
        await leg.answer()
        theirs = await dialling
        assert await next_event(leg) == Established()
        assert ua.process is not None
        os.killpg(ua.process.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(6)
            assert "does not answer" in connector.endpoint.problem
        finally:
            os.killpg(ua.process.pid, signal.SIGCONT)
        await connector.ready()
        await hears_tone(leg, theirs)
        await theirs.hang_up()
        assert await next_event(leg) == Terminated(Party.CALLER, "hung up")


@pytest.mark.slow
@pytest.mark.parametrize("installed", installations(), ids=str)
async def test_a_ua_that_is_killed_and_comes_back(installed: Installed, tmp_path: Path) -> None:
    with ua_in(tmp_path / "ua", installed) as ua:
        async with connector_at(ua) as connector, running() as phone:
            dialling = asyncio.create_task(phone.endpoint.dial(connector.uri))
            leg = await connector.next()
            await leg.answer()
            await dialling
            assert await next_event(leg) == Established()
            await asyncio.to_thread(ua.stop, signal.SIGKILL)
            async with asyncio.timeout(5):
                while "does not answer" not in connector.endpoint.problem:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.1)
            ua.start()
            assert await next_event(leg) == Terminated(Party.SYSTEM, "OpenSIPS no longer has the call")
            with pytest.raises(CallFailed, match="503"):
                await phone.endpoint.dial(connector.uri)
            await connector.ready()
            dialling = asyncio.create_task(phone.endpoint.dial(connector.uri))
            leg = await connector.next()
            await leg.answer()
            await (await dialling).hang_up()


@pytest.mark.slow
async def test_a_connector_that_is_killed_and_comes_back_ends_what_it_left(ua: Ua, tmp_path: Path) -> None:
    file = tmp_path / "voxtrunk.yml"
    pairs = [{**ua.pair.model_dump(exclude_none=True), "http": "127.0.0.1:0"}]
    file.write_text(json.dumps({"opensips": {"pairs": pairs}, "routes": [{"number": "1000", "flavor": "echo"}]}))

    async def serve() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "connector.cli", "serve", "-c", str(file), stderr=asyncio.subprocess.DEVNULL
        )

    first = await serve()
    async with running() as phone:
        leg = await _answered(phone.endpoint, f"sip:1000@{ua.pair.listen}")
        first.kill()
        await first.wait()
        await asyncio.sleep(4)
        with pytest.raises(CallFailed, match="503"):
            await phone.endpoint.dial(f"sip:1000@{ua.pair.listen}")
        second = await serve()
        try:
            assert await next_event(leg, Terminated, seconds=15) == Terminated(Party.CALLER, "hung up")
            again = await _answered(phone.endpoint, f"sip:1000@{ua.pair.listen}")
            await again.hang_up()
        finally:
            second.terminate()
            await second.wait()


async def _answered(phone: EmbeddedEndpoint, uri: str) -> Leg:
    """A call to `uri`, once somebody answers there."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            with suppress(CallFailed):
                return await phone.dial(uri)
            await asyncio.sleep(0.25)
