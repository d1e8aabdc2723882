"""What OpenSIPS never sends, and replies that never come: no crash, no leak, and no call lost that OpenSIPS has.

`pair` fails where anything is left in the end: a session, a call, a task, a port. Seeds are fixed, time is virtual.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import Any

import pytest

from connector.errors import BadEvent, VoxtrunkError
from connector.interfaces import Digit, Established, Party, Terminated
from connector.leg.opensips_leg import OpenSipsLeg
from connector.leg.opensips_messages import request_of, response_of
from connector.mi.events import EventType, parse_event
from connector.mi.sessions import SessionState
from connector.rtp.packet import RtpPacket
from tests.fakes.clock import virtual_time
from tests.fakes.opensips import FarEnd, Pair, pair
from tests.fakes.rtp_peer import RtpPeer
from tests.fakes.sip import next_event, sdp

EVENTS = 10_000
REPLIES = 1_000

KEY = "Signal=5\r\nDuration=160\r\n"
RELAY = "Content-Type: application/dtmf-relay\r\n"
TEXTS = ("", "\0", "\r\n\r\n", "x" * 5000, "ä\u2028", "\ud800", "B2B.1")
VALUES: tuple[Any, ...] = (None, 0, -1, 2**63, True, 1.5, [], {}, *TEXTS)
COHERENT = (
    *[("NEW", "INVITE", 0)] * 4,
    ("EARLY", "INVITE", 180),
    ("ANSWERED", "INVITE", 200),
    ("REJECTED", "REFER", 603),
    ("UPDATED", "ACK", 0),
    ("UPDATED", "INVITE", 0),
    ("UPDATED", "INFO", 0),
    ("UPDATED", "NOTIFY", 0),
    ("TERMINATED", "BYE", 0),
    ("TERMINATED", "CANCEL", 0),
)
KINDS = ("NEW", "EARLY", "ANSWERED", "REJECTED", "UPDATED", "TERMINATED", "OTHER")
METHODS = ("INVITE", "ACK", "BYE", "CANCEL", "INFO", "NOTIFY", "OPTIONS", "UPDATE", "REFER", "FETCH", "")


def hostile_events(rng: random.Random, us: Pair, sources: list[FarEnd]) -> Iterator[bytes]:
    """Events of sessions that are not there, mutated, doubled and shuffled."""
    for _ in count():
        far = rng.choice(sources)
        kind, method, status = rng.choice(COHERENT)
        if rng.random() < 0.2:
            kind, method, status = rng.choice(KINDS), rng.choice(METHODS), rng.choice((0, 180, 200, 486, 999))
        body = rng.choice(("", sdp(), sdp(), sdp(), sdp(), sdp(formats="18"), KEY, "v=0"))
        headers = rng.choice(("", "", "", "", RELAY, "Event: refer\r\n", "Require: x\r\n"))
        fields = us.ua.event(far, kind, method, status, "Any", body, headers, "sip:1000@127.0.0.1")
        for _ in range(rng.choice((0, 0, 1, 2, 4))):
            name = rng.choice(list(fields) or ["key"])
            match rng.randrange(4):
                case 0:
                    fields.pop(name, None)
                case 1:
                    fields[name] = rng.choice(VALUES)
                case 2:
                    fields[rng.choice(TEXTS)] = rng.choice(VALUES)
                case 3 if isinstance(fields.get(name), str):
                    text = fields[name]
                    cut = rng.randrange(len(text) + 1)
                    fields[name] = text[:cut] + rng.choice(("", "\r\n", "é", text)) + text[cut + rng.randrange(3) :]
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": "E_UA_SESSION", "params": fields}
        if rng.random() < 0.05:
            message.pop(rng.choice(list(message)))
        data = json.dumps(dict(rng.sample(list(message.items()), len(message)))).encode()
        if rng.random() < 0.1:
            octets = bytearray(data)
            for _ in range(rng.randrange(1, 20)):
                octets[rng.randrange(len(octets))] = rng.randrange(256)
            data = bytes(octets[: rng.randrange(len(octets)) or None])
        yield data


def strangers(us: Pair, number: int) -> list[FarEnd]:
    """Far ends of sessions that OpenSIPS does not have."""
    return [FarEnd(us.ua, f"B2B.9.{n}", SessionState.NEW) for n in range(number)]


def test_a_parsed_event_is_whole_or_the_documented_error_is_raised() -> None:
    rng = random.Random(1)

    @virtual_time
    async def run() -> int:
        usable = 0
        async with pair() as us:
            events = hostile_events(rng, us, strangers(us, 20))
            for data, _ in zip(events, range(EVENTS), strict=False):
                try:
                    event = parse_event(data)
                    responses = (EventType.EARLY, EventType.ANSWERED, EventType.REJECTED)
                    (response_of if event.type in responses else request_of)(event)
                    usable += 1
                except BadEvent:
                    continue
        return usable

    assert run() > EVENTS / 20, "too little of it is near an event to find anything"


async def talk(phone: RtpPeer, leg: OpenSipsLeg) -> None:
    for n in count():
        phone.send(RtpPacket(0, n % 65536, 160 * n, 1, bytes(160)), leg.rtp.local)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("seed", range(2))
def test_hostile_events_beside_an_established_call(seed: int) -> None:
    """Half of the events each: doubled, reordered, of known sessions and unknown ones. The call goes on."""

    @virtual_time
    async def run() -> None:
        rng = random.Random(seed)
        with RtpPeer() as phone:
            async with pair(max_calls=30) as us:
                leg, far = await us.established(sdp(port=phone.local[1]))
                talking = asyncio.create_task(talk(phone, leg))
                served: list[OpenSipsLeg] = []
                serving = asyncio.create_task(_serve(us, rng, served))
                sources = [*strangers(us, 3000), *(us.ua.call(quiet=True) for _ in range(50))]
                hostile = hostile_events(rng, us, sources)
                sent = 0
                while sent < EVENTS // 2:
                    batch = [next(hostile) for _ in range(20)]
                    batch += rng.choices(batch, k=5)
                    rng.shuffle(batch)
                    for data in batch:
                        us.ua.send_event(data)
                    sent += len(batch)
                    await asyncio.sleep(rng.choice((0.0, 0.01, 0.3)))
                await asyncio.sleep(120)
                assert len(served) > 100, "hardly an event got so far as to make a call"
                before = leg.rtp.statistics
                phone.datagrams()
                await asyncio.sleep(1)
                assert leg.rtp.statistics.received - before.received > 40
                assert len(phone.packets()) > 40
                far.request("INFO", KEY, RELAY)
                assert await next_event(leg) == Digit("5", 0.16)
                assert us.endpoint.calls == 1
                assert us.endpoint.dropped.malformed > 1000
                far.bye()
                assert await next_event(leg) == Terminated(Party.CALLER, "hung up")
                for task in (talking, serving):
                    task.cancel()

    run()


async def _serve(us: Pair, rng: random.Random, served: list[OpenSipsLeg]) -> None:
    """Does with calls that come what a connector does: answers them, refuses them, or hangs up on them."""
    while True:
        leg = await us.inbox.legs.get()
        assert isinstance(leg, OpenSipsLeg)
        served.append(leg)
        with suppress(VoxtrunkError):
            match rng.randrange(4):
                case 0:
                    await leg.reject(486, "Busy Here")
                case 1:
                    await leg.ring()
                    await leg.answer()
                case 2:
                    await leg.answer()
                    await leg.hang_up()
                case 3:
                    await leg.hang_up()


def test_lost_and_late_replies_lose_no_call() -> None:
    @virtual_time
    async def run() -> None:
        rng = random.Random(7)
        hurt = 0

        def lose(command: str) -> bool:
            nonlocal hurt
            lost = command.startswith("ua_") and rng.random() < 0.3
            hurt += lost
            return lost

        def hold(command: str) -> float:
            nonlocal hurt
            late = command.startswith("ua_") and rng.random() < 0.3
            hurt += late
            return rng.choice((0.1, 0.6, 3.0)) if late else 0.0

        async with pair() as us:
            us.ua.lose_reply, us.ua.hold_reply = lose, hold
            calls = 0
            while hurt < REPLIES:
                await asyncio.gather(*(_call(us, rng) for _ in range(10)))
                calls += 10
            us.ua.lose_reply, us.ua.hold_reply = lambda command: False, lambda command: 0.0
            assert calls > 100
            await asyncio.sleep(90)
            assert us.endpoint._mi.counts.late > 50
            assert us.endpoint._mi.waiting == 0

    run()


async def _call(us: Pair, rng: random.Random) -> None:
    """A call whose leg lives as long as OpenSIPS has it."""
    far = us.ua.call()
    leg = await us.next()
    await leg.ring()
    answering = asyncio.create_task(leg.answer())
    await far.hears(200)
    far.ack()
    await answering
    assert await next_event(leg) == Established()
    if rng.random() < 0.5:
        hold = asyncio.create_task(leg.hold())
        await far.hears("INVITE")
        far.respond(200, body=sdp(direction="recvonly"))
        await hold
    if rng.random() < 0.5:
        far.request("INFO", KEY, RELAY)
        await far.hears(200, "INFO")
        assert await next_event(leg) == Digit("5", 0.16)
    if rng.random() < 0.5:
        await leg.hang_up("done")
        assert await next_event(leg, seconds=20) == Terminated(Party.AGENT, "done")
    else:
        far.bye()
        assert await next_event(leg, seconds=20) == Terminated(Party.CALLER, "hung up")
