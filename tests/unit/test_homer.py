"""The fake Homer reads HEP3 as documented, and refuses what does not follow the document."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.fakes.homer import HepPacket, capturing, pack, unpack

EXAMPLE = bytes.fromhex(
    "48455033 0071 0000 0001 0007 02 0000 0002 0007 11 0000 0003 000a d4ca0001 0000 0004 000a 527400d3"
    "0000 0007 0008 2eea 0000 0008 0008 13c4 0000 0009 000a 4e4982cb 0000 000a 000a 0001d4c0"
    "0000 000b 0007 01 0000 000c 000a 000000e4 0000 000f 0014 494e56495445207369703a626f62"
)
"""An INVITE from 212.202.0.1:12010 to 82.116.0.211:5060, captured by node 228."""


def test_a_packet_is_taken_apart_and_put_together() -> None:
    packet = HepPacket(
        source=("212.202.0.1", 12010),
        target=("82.116.0.211", 5060),
        transport=17,
        at=1313440459.12,
        agent=228,
        correlation="",
        payload=b"INVITE sip:bob",
    )
    assert unpack(EXAMPLE) == packet
    assert pack(packet) == EXAMPLE


@pytest.mark.parametrize(
    ("damaged", "why"),
    [
        (b"HEP2" + EXAMPLE[4:], "begins with"),
        (EXAMPLE[:-1], "says a length of 113"),
        (EXAMPLE[:5], "says a length"),
        (EXAMPLE.replace(b"\x00\x0b\x00\x07\x01", b"\x00\x0b\x00\x07\x05"), "protocol type 5 is not SIP"),
        (EXAMPLE.replace(b"\x00\x0c\x00\x0a", b"\x00\x0c\x00\x02"), "says a length of 2"),
        (EXAMPLE.replace(b"\x00\x08\x00\x08", b"\x00\x07\x00\x08"), "comes twice"),
        (EXAMPLE.replace(b"\x00\x0c\x00\x0a", b"\x00\x09\x00\x0a"), "comes twice"),
        (EXAMPLE.replace(b"\x00\x0c\x00\x0a", b"\x00\x21\x00\x0a"), "chunk or address family 12 is missing"),
        (EXAMPLE.replace(b"\x00\x01\x00\x07\x02", b"\x00\x01\x00\x07\x03"), "chunk or address family 3"),
    ],
)
def test_what_does_not_follow_the_document_is_refused(damaged: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        unpack(damaged)


async def test_it_receives_over_udp_and_tcp() -> None:
    async with capturing() as homer:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(EXAMPLE, ("127.0.0.1", homer.port))
            sender.sendto(b"nonsense", ("127.0.0.1", homer.port))
        _, writer = await asyncio.open_connection("127.0.0.1", homer.port)
        writer.write(EXAMPLE + EXAMPLE)
        await writer.drain()
        assert await homer.saw(lambda packets: len(packets) == 3)
        writer.close()
        await writer.wait_closed()
        assert not await homer.saw(lambda packets: len(packets) == 4, seconds=0.05)
    assert homer.malformed == ["begins with b'nons'"]
    assert homer.raw == [EXAMPLE] * 3
