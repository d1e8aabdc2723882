"""docs/behind-twilio.md, followed to the letter, with SIPp in the place of Twilio.

Made from Twilio's documented messages, not run against Twilio. The addresses of the page are real ones, in a network
of the test's own that has its NAT and its firewall, too; SIPp is Twilio's proxy, a socket beside it Twilio's media
gateway.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import wave
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from connector.audio import Samples
from connector.record import CallRecord
from connector.rtp.packet import RtpPacket
from connector.rtp.telephone_event import EventSender
from docs.generate import ROOT
from tests.e2e import followed, network, opensips, sipp
from tests.e2e.followed import Page, Site
from tests.e2e.test_docs import blocks as all_blocks
from tests.fakes.audio import hears, level_db, rtp_stream, tone
from tests.fakes.rtp_peer import RtpPeer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(network.missing_reason() is not None, reason=str(network.missing_reason())),
    pytest.mark.skipif(sipp.missing_reason() is not None, reason=str(sipp.missing_reason())),
    pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed (apt-get install nftables)"),
]

PAGE = Page(ROOT / "docs" / "behind-twilio.md")

MACHINE, PUBLIC = "10.0.0.5", "203.0.113.10"
TWILIO, MEDIA, STRANGER = "54.172.60.1", "168.86.128.1", "198.51.100.66"
CALLED, CALLING, SID = "+14155552222", "+14155551111", "CA0123456789abcdef0123456789abcdef"
OPERATOR = "[+]14155553333@example[.]pstn[.]twilio[.]com"
"""As SIPp's regular expression has it."""

NAT = f"""
table ip nat {{
  chain output {{
    type nat hook output priority -100
    ip daddr {PUBLIC} dnat to {MACHINE}
  }}
  chain postrouting {{
    type nat hook postrouting priority 100
    ip saddr {MACHINE} ip daddr != {MACHINE} snat to {PUBLIC}
  }}
}}
"""
"""The cloud's 1:1 NAT: the machine does not know the public address."""

OPTIONS = (
    f"OPTIONS sip:{PUBLIC} SIP/2.0\r\nVia: SIP/2.0/UDP {STRANGER}:5060;branch=z9hG4bKstranger\r\n"
    f"From: <sip:stranger@{STRANGER}>;tag=1\r\nTo: <sip:{PUBLIC}>\r\nCall-ID: stranger\r\nCSeq: 1 OPTIONS\r\n"
    "Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
).encode()

SID_ROUTE = """\
  - number: "+14155550001"
    flavor: offline
    with: {greeting: "This is {{header:X-Twilio-CallSid}}."}
"""


@pytest.fixture(scope="module", params=opensips.installations(), ids=str)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The page followed up to the running stack."""
    folder = tmp_path_factory.mktemp("site")
    with (
        network.inside(MACHINE, TWILIO, MEDIA, STRANGER, beyond=PUBLIC, nftables=NAT),
        followed.running(PAGE, folder, request.param, {"voxtrunk.yml": SID_ROUTE}) as running,
    ):
        yield running


class Gateway:
    """Twilio's media gateway: a tone to the address that the SDP of the answer names, and keys in it."""

    def __init__(self, peer: RtpPeer, log: Path) -> None:
        self.peer = peer
        self.log = log
        self._keys = EventSender(8000)

    async def run(self, keys: str = "", after: float = 1.5) -> None:
        """Talks until it is cancelled; presses `keys` after so many seconds."""
        to = (PUBLIC, await self._port())
        loop = asyncio.get_running_loop()
        start = loop.time()
        for index, packet in enumerate(rtp_stream(tone(1004, 60), ssrc=0x7E110)):
            if index == round(after / 0.02):
                self._keys.queue(keys)
            self.peer.send(self._event(packet) or packet, to)
            await asyncio.sleep(start + (index + 1) * 0.02 - loop.time())

    async def _port(self) -> int:
        # A file that another process writes has no event (ASYNC110).
        async with asyncio.timeout(10):
            while not self.log.exists() or not (line := self.log.read_text().split()):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return int(line[-1])

    def _event(self, packet: RtpPacket) -> RtpPacket | None:
        event = self._keys.next()
        if event is None:
            return None
        return packet._replace(
            payload_type=101, payload=event.payload, marker=event.marker, timestamp=packet.timestamp - event.offset
        )


async def call(scenario: str, *options: str, source: str = TWILIO, rtp: int = 9, **parameters: object) -> None:
    """Twilio calls."""
    texts = {
        "invite": (sipp.SCENARIOS / "twilio_invite.txt").read_text(),
        "answered": (sipp.SCENARIOS / "twilio_answered.txt").read_text(),
        "calling": CALLING,
        "sid": SID,
        "media": MEDIA,
        "rtp": rtp,
        "public": PUBLIC,
        "operator": OPERATOR,
        "proxy": f"{source}:5060",
        "called": CALLED,
        "diverted": parameters.get("called", CALLED),
        "formats": "0 8",
        "rtpmaps": "      a=rtpmap:0 PCMU/8000\n      a=rtpmap:8 PCMA/8000",
        **parameters,
    }
    await sipp.call(scenario, (PUBLIC, 5060), *options, local=(source, 5060), **texts)


@asynccontextmanager
async def gateway(folder: Path, keys: str = "") -> AsyncIterator[tuple[Gateway, tuple[str, ...]]]:
    """Runs the media gateway; yields it and SIPp's options that tell it where to send."""
    log = folder / "answered.log"
    with RtpPeer(MEDIA) as peer:
        media = Gateway(peer, log)
        talking = asyncio.create_task(media.run(keys))
        try:
            yield media, ("-trace_logs", "-log_file", str(log))
        finally:
            talking.cancel()
            await asyncio.wait([talking])


async def next_record(site: Site, before: int) -> CallRecord:
    """The record after the first `before` ones."""
    async with asyncio.timeout(15):
        while len(site.records) <= before:  # noqa: ASYNC110 - written by another process
            await asyncio.sleep(0.1)
    return site.records[before]


def caller_of(path: Path) -> Samples:
    """What the agent heard, of voxtrunk's recording."""
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)[:, 0]


# --------------------------------------------------------------------------------------- the page


def test_every_block_is_used() -> None:
    """But for the picture at the top."""
    assert {block.mark.partition(":")[0] for block in PAGE.blocks} == {"site", "site run", "site up", "twilio"}
    unmarked = [block for block in all_blocks(PAGE.path) if not block.mark]
    assert len(unmarked) == 1
    assert unmarked[0].line < PAGE.blocks[0].line


def test_page_and_scenarios_say_what_they_are() -> None:
    label = "not run against twilio"
    assert label in PAGE.path.read_text().lower()
    for scenario in sipp.SCENARIOS.glob("twilio_*.xml"):
        assert label in scenario.read_text().lower(), scenario


async def test_somebody_is_there(site: Site) -> None:
    """OPTIONS."""
    await call("twilio_options")


# --------------------------------------------------------------------------------------- answered


async def test_a_call_with_audio_both_ways_whose_caller_hangs_up(site: Site, tmp_path: Path) -> None:
    """Record-Route, both Vias, To-tag, Contact, PCMU and 101 in the answer: SIPp sees to these."""
    before = len(site.records)
    async with gateway(tmp_path) as (media, log):
        await call("twilio_hangs_up", *log, rtp=media.peer.local[1], hold=4000)
        heard = media.peer.heard()
    record = await next_record(site, before)
    assert (record.disposition.value, record.ended_by.value) == ("answered", "caller")
    assert level_db(heard[8000:24000]) > -45
    assert hears(caller_of(site.recording(record))[8000:16000], 1004)


async def test_what_twilio_tells_of_the_call_reaches_record_and_flavor(site: Site, tmp_path: Path) -> None:
    before = len(site.records)
    async with gateway(tmp_path) as (media, log):
        rtp = media.peer.local[1]
        await call("twilio_hangs_up", *log, rtp=rtp, hold=1500)
        await call("twilio_hangs_up", *log, rtp=rtp, hold=1500, called="+14155550001", diverted="+14155550000")
    record, other = await next_record(site, before), await next_record(site, before + 1)
    assert (record.called, record.called_number, record.route) == (CALLED, CALLED, f"number {CALLED}")
    assert (record.calling, record.calling_number, record.asserted) == (CALLING, CALLING, CALLING)
    assert not record.diversions
    assert [(one.number, one.reason) for one in other.diversions] == [("+14155550000", "unconditional")]
    assert record.peer == f"{TWILIO}:5060"
    assert record.turns[0].reply.endswith(f"You are calling from {CALLING}.")
    assert other.turns[0].reply == f"This is {SID}."


async def test_the_agent_hangs_up_after_a_key(site: Site, tmp_path: Path) -> None:
    """The BYE takes the recorded route to the gateway behind Twilio's proxy."""
    before = len(site.records)
    async with gateway(tmp_path, keys="#") as (media, log):
        await call("twilio_is_hung_up", *log, rtp=media.peer.local[1])
    record = await next_record(site, before)
    assert (record.disposition.value, record.ended_by.value, record.turns[-1].intent) == (
        "answered",
        "agent",
        "goodbye",
    )


async def test_the_agent_transfers_the_caller(site: Site, tmp_path: Path) -> None:
    before = len(site.records)
    async with gateway(tmp_path, keys="0#") as (media, log):
        await call("twilio_transfers", *log, rtp=media.peer.local[1])
    record = await next_record(site, before)
    assert (record.ended_by.value, record.reason) == ("agent", "transferred")


async def test_the_caller_gives_up_while_it_rings(site: Site) -> None:
    before = len(site.records)
    # It answers within milliseconds, where nobody stops it.
    site.freeze("serve")
    try:
        await call("twilio_cancels")
    finally:
        site.thaw("serve")
    record = await next_record(site, before)
    assert (record.disposition.value, record.ended_by.value) == ("cancelled", "caller")


# --------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("status", "parameters"),
    [
        (404, {"called": "+14155559999"}),
        (488, {"formats": "96", "rtpmaps": "      a=rtpmap:96 EVRC/8000"}),
        (403, {"source": STRANGER}),
    ],
)
async def test_refusals(site: Site, status: int, parameters: dict[str, str]) -> None:
    """No route; no codec; no network of Twilio's."""
    await call("twilio_refused", status=status, **parameters)


async def test_without_a_connector_the_next_origination_uri_is_wanted_at_once(site: Site) -> None:
    site.freeze("serve")
    try:
        await asyncio.sleep(4)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await call("twilio_refused", status=503)
        assert loop.time() - began < 1
    finally:
        site.thaw("serve")
    await asyncio.sleep(2)
    await call("twilio_options")


# --------------------------------------------------------------------------------------- the firewall


async def test_with_the_firewall_twilio_gets_through_and_strangers_get_silence(site: Site, tmp_path: Path) -> None:
    before = len(site.records)
    rules = PAGE.files("twilio")["nft"]
    await asyncio.to_thread(subprocess.run, ["nft", "-f", "-"], input=rules.encode(), check=True)
    try:
        async with gateway(tmp_path) as (media, log):
            await call("twilio_hangs_up", *log, rtp=media.peer.local[1], hold=3000)
        record = await next_record(site, before)
        assert hears(caller_of(site.recording(record))[8000:16000], 1004)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind((STRANGER, 5060))
            stranger.settimeout(1)
            stranger.sendto(OPTIONS, (PUBLIC, 5060))
            with pytest.raises(TimeoutError):
                await asyncio.to_thread(stranger.recv, 2048)
    finally:
        await asyncio.to_thread(subprocess.run, ["nft", "delete", "table", "inet", "twilio"], check=True)


# --------------------------------------------------------------------------------------- after all calls


def test_the_commands_print_what_is_shown(site: Site) -> None:
    site.look()
