"""IPv6 beside IPv4: media on either, signalling on either, and one socket for both."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import numpy as np
import pytest

from connector.audio import Samples
from connector.interfaces import Leg
from connector.leg.rtp_audio import MediaTarget, RtpAudio
from connector.leg.sip_socket import mapped, unmapped
from connector.udp.ports import PortPool
from connector.udp.ticker import Ticker
from tests.fakes.audio import hears, level_db, rtp_stream, tone
from tests.fakes.clock import LoopClock, virtual_time
from tests.fakes.rtp_peer import RtpPeer
from tests.fakes.sip import facing, running, sdp

EXPEDITED_FORWARDING = 0xB8
"""DSCP 46 in the upper six bits (RFC 3246, RFC 2474)."""


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@virtual_time
async def test_media_crosses_with_dscp_ef_on_the_wire_and_from_the_peer_alone(address: str) -> None:
    clock = LoopClock()
    ticker = Ticker(clock)
    ticking = asyncio.create_task(ticker.run())
    first = random.randrange(20_000, 50_000, 2)
    audio = await RtpAudio.open(
        address=address, ports=PortPool(first, first + 99), ticker=ticker, clock=clock, timeout=5.0
    )
    heard: list[Samples] = []
    audio.listen(lambda frame: heard.append(frame.samples))
    with RtpPeer(address) as peer, RtpPeer(address, peer.local[1] + 1) as reports, RtpPeer(address) as stranger:
        audio.configure(MediaTarget(*peer.local, "PCMU", 0, 101))
        audio.write(1, tone(1000, 1.0))
        peer.traffic_classes()
        reports.traffic_classes()
        for packet in rtp_stream(tone(440, 1.0)):
            peer.send(packet, audio.local)
            stranger.send(packet._replace(payload=b"\x00\x80" * 80), audio.local)
            await clock.sleep(0.02)
        assert hears(np.concatenate(heard[5:]), 440)
        assert set(peer.traffic_classes()) == {EXPEDITED_FORWARDING}
        await peer.stream(rtp_stream(tone(440, 7.0), sequence=1050, timestamp=58_000), audio.local, clock)
        assert set(reports.traffic_classes()) == {EXPEDITED_FORWARDING}
        assert audio.statistics.strangers == 50
        times = [packet.timestamp for packet in peer.packets()]
        assert {(b - a) & 0xFFFFFFFF for a, b in pairwise(times)} == {160}
    await audio.aclose()
    ticking.cancel()
    await asyncio.wait({ticking})


async def talk(ours: Leg, theirs: Leg) -> tuple[Samples, Samples]:
    """What each side hears of the other's tone: 440 Hz ours, 1000 Hz theirs."""
    heard: tuple[list[Samples], list[Samples]] = ([], [])
    ours.audio.listen(lambda frame: heard[0].append(frame.samples))
    theirs.audio.listen(lambda frame: heard[1].append(frame.samples))
    ours.audio.write(1, tone(440, 1.5))
    theirs.audio.write(1, tone(1000, 1.5))
    await asyncio.sleep(1.2)
    return np.concatenate(heard[0])[-4000:], np.concatenate(heard[1])[-4000:]


async def test_two_endpoints_call_each_other_over_ipv6() -> None:
    async with running(settings={"listen": "[::1]:0"}) as caller, running(settings={"listen": "[::1]:0"}) as callee:
        dialling = asyncio.create_task(caller.endpoint.dial(callee.uri()))
        theirs = await callee.inbox.answered()
        ours = await dialling
        assert theirs.info.peer == f"[::1]:{caller.address[1]}"
        at_ours, at_theirs = await talk(ours, theirs)
        assert hears(at_ours, 1000, 16_000), "both speak wideband"
        assert hears(at_theirs, 440, 16_000)
        await ours.hang_up()


async def test_one_socket_serves_both_families_each_in_its_own_words() -> None:
    settings = {"listen": "[::]:0", "allow": ["127.0.0.0/8", "::1/128"]}
    async with facing(settings=settings) as (callee, phone):
        leg, _ = await phone.call(callee.inbox)
        assert leg.info.peer == f"127.0.0.1:{phone.address[1]}"
        assert "c=IN IP4 127.0.0.1" in phone.last_body
        assert phone.last_contact == f"<sip:voxtrunk@127.0.0.1:{callee.address[1]}>"
        async with running(settings={"listen": "[::1]:0"}) as caller:
            dialling = asyncio.create_task(caller.endpoint.dial(f"sip:1000@[::1]:{callee.address[1]}"))
            theirs = await callee.inbox.answered()
            assert theirs.info.peer == f"[::1]:{caller.address[1]}"
            await (await dialling).hang_up()
        async with running() as called:
            dialling = asyncio.create_task(callee.endpoint.dial(called.uri()))
            await called.inbox.answered()
            assert (await dialling).info.peer == f"127.0.0.1:{called.address[1]}"


@pytest.mark.parametrize(("allow", "status"), [("::1/128", 403), ("127.0.0.1/32", 200)])
async def test_an_ipv4_caller_is_judged_by_the_ipv4_networks_of_the_list(allow: str, status: int) -> None:
    async with facing(settings={"listen": "[::]:0", "allow": [allow]}) as (callee, phone):
        phone.send(phone.compose("INVITE", body=sdp()))
        if status == 200:
            await callee.inbox.answered()
        await phone.response(status)


def test_mapped_addresses_are_the_sockets_own_affair() -> None:
    assert unmapped(("::ffff:192.0.2.1", 5060)) == ("192.0.2.1", 5060)
    assert unmapped(("2001:db8::1", 5060)) == mapped(("2001:db8::1", 5060)) == ("2001:db8::1", 5060)
    assert mapped(("192.0.2.1", 5060)) == ("::ffff:192.0.2.1", 5060)


@pytest.mark.parametrize("nat", [False, True])
async def test_a_phone_behind_a_nat_is_heard_where_the_configuration_says_that_there_may_be_one(nat: bool) -> None:
    async with facing(nat=nat) as (callee, phone):
        # In its SDP, the address of its own network; its signalling and media come from another.
        leg, _ = await phone.call(callee.inbox, body=sdp().replace("127.0.0.1", "192.0.2.44"))
        heard: list[Samples] = []
        leg.audio.listen(lambda frame: heard.append(frame.samples))
        port = int(phone.last_body.partition("m=audio ")[2].split()[0])
        with RtpPeer() as outside:
            await outside.stream(rtp_stream(tone(440, 1.2)), ("127.0.0.1", port), LoopClock())
            # In real time, so that a busy machine may stretch the tone: it is heard, or nothing is.
            assert (level_db(np.concatenate(heard[-20:])) > -40) is nat
            assert bool(outside.packets()) is nat
