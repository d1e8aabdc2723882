"""A copy of every SIP message goes to Homer where that is configured: a call's messages in order, as HEP3."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest

from connector.app import SystemClock
from connector.cli.phone.own import own_phone
from connector.config.model import split_address
from connector.sip.message import Request, Response
from tests.e2e.opensips import Installed, Stack, installations, running, site
from tests.fakes.homer import HepPacket, Homer, capturing, pack

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("opensips", installations(), ids=str)]

CLOCK = SystemClock()
UDP = socket.IPPROTO_UDP


async def call(stack: Stack) -> str:
    """A short call, ended by the caller; its Call-ID."""
    async with own_phone(CLOCK) as phone:
        leg = await phone.dial(f"sip:1000@{stack.edge[0]}:{stack.edge[1]}")
        await asyncio.sleep(0.3)
        await leg.hang_up()
    return leg.info.call_id


def words(packet: HepPacket) -> str:
    """Such as `INVITE` or `200 INVITE`."""
    match packet.sip:
        case Request(method=method):
            return method
        case Response(code=code) as response:
            return f"{code} {response.cseq.method}"
        case _:
            raise AssertionError(packet)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_the_messages_of_a_call_arrive(opensips: Installed, transport: str, tmp_path: Path) -> None:
    """Both sides of the edge, each with its own addresses, under the call's own Call-ID."""
    async with capturing() as homer:
        section = site(hep=f"{transport}:127.0.0.1:{homer.port}")
        async with running(opensips, tmp_path, opensips=section) as stack:
            began = time.time()
            call_id = await call(stack)
            edge, ua = stack.edge, split_address(stack.pairs[0].listen)
            assert await homer.saw(lambda packets: len(by_words(homer, call_id, ua).get("200 BYE", [])) >= 1)
            assert await homer.saw(lambda packets: "200 BYE" in caller_side(homer, call_id, edge, ua))
    assert homer.malformed == []

    # Between caller and edge.
    outside = caller_side(homer, call_id, edge, ua)
    # Copies come from several processes, in any order.
    assert set(outside) == {"INVITE", "100 INVITE", "180 INVITE", "200 INVITE", "ACK", "BYE", "200 BYE"}
    for name, packet in outside.items():
        ours, theirs = (packet.source, packet.target) if name[0].isdigit() else (packet.target, packet.source)
        assert ours == edge, name
        assert theirs[0] == "127.0.0.1", name

    # Between edge and UA.
    inside = by_words(homer, call_id, ua)
    for name in ("INVITE", "180 INVITE", "200 INVITE", "ACK", "BYE", "200 BYE"):
        (packet,) = inside[name]
        assert (packet.source, packet.target) == ((ua, edge) if name[0].isdigit() else (edge, ua)), name

    assert all(packet.transport == UDP for packet in homer.packets)
    assert all(began - 2 < packet.at < time.time() + 2 for packet in homer.packets)
    assert all(packet.correlation in ("", call_id) for packet in homer.packets)


def by_words(homer: Homer, call_id: str, ua: tuple[str, int]) -> dict[str, list[HepPacket]]:
    """What went between edge and UA."""
    found: dict[str, list[HepPacket]] = {}
    for packet in homer.packets:
        if packet.sip.headers.get("Call-ID") == call_id and ua in (packet.source, packet.target):
            found.setdefault(words(packet), []).append(packet)
    return found


def caller_side(homer: Homer, call_id: str, edge: tuple[str, int], ua: tuple[str, int]) -> dict[str, HepPacket]:
    """What went between caller and edge; of a repeated message the first copy."""
    found: dict[str, HepPacket] = {}
    for packet in homer.packets:
        if packet.sip.headers.get("Call-ID") == call_id and ua not in (packet.source, packet.target):
            found.setdefault(words(packet), packet)
    return found


async def test_keep_alives_of_the_stack_itself_are_not_copied(opensips: Installed, tmp_path: Path) -> None:
    """The edge asks each UA every second: that would bury the calls."""
    async with capturing() as homer, running(opensips, tmp_path, opensips=site(hep=f"udp:127.0.0.1:{homer.port}")):
        assert not await homer.saw(lambda packets: len(packets) > 0, seconds=3)


async def test_nothing_is_copied_and_no_module_is_loaded_without_it(opensips: Installed, tmp_path: Path) -> None:
    async with capturing() as homer, running(opensips, tmp_path) as stack:
        await call(stack)
        assert not await homer.saw(lambda packets: len(packets) > 0, seconds=1)
        for name in ("edge", "ua-a"):
            known = await stack.mi(name, "which")
            assert "trace" not in known, name


async def test_nobody_gets_in_by_the_socket_that_copies_leave_by(opensips: Installed, tmp_path: Path) -> None:
    """proto_hep takes HEP there, too, and could hand the SIP in it to the script as if its source had sent it."""
    async with (
        capturing() as homer,
        running(opensips, tmp_path, opensips=site(hep=f"udp:127.0.0.1:{homer.port}")) as stack,
    ):
        await call(stack)
        assert homer.senders
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as victim:
            victim.bind(("127.0.0.1", 0))
            victim.setblocking(False)
            forged = victim.getsockname()
            request = (
                f"OPTIONS sip:{stack.edge[0]}:{stack.edge[1]} SIP/2.0\r\n"
                f"Via: SIP/2.0/UDP {forged[0]}:{forged[1]};branch=z9hG4bKforged\r\n"
                f"From: <sip:x@{forged[0]}>;tag=1\r\nTo: <sip:y@{forged[0]}>\r\nCall-ID: forged\r\n"
                "CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
            )
            packet = HepPacket(forged, stack.edge, UDP, time.time(), 1, "", request.encode())
            for door in homer.senders:
                victim.sendto(pack(packet), door)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.5):
                    await asyncio.get_running_loop().sock_recv(victim, 65_535)
