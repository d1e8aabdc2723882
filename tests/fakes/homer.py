"""A capture server in Homer's place: receives HEP3 over UDP and TCP, and takes each packet apart as it is documented.

HEP3 (The Hombre/HOMER Encapsulation Protocol version 3, github.com/sipcapture/HEP): `HEP3`, the total length, then
chunks of vendor, type, length (its own six bytes included) and value; all numbers in network order.
"""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from connector.sip.message import Message, parse

MAGIC = b"HEP3"
CHUNK = struct.Struct("!HHH")
SIP = 1
"""Protocol type (chunk 0x000b) of a SIP message."""
GENERIC = 0
"""Vendor of the chunks that the document itself defines."""

FAMILY, PROTOCOL, V4_SOURCE, V4_TARGET, V6_SOURCE, V6_TARGET = range(1, 7)
SOURCE_PORT, TARGET_PORT, SECONDS, MICROSECONDS, TYPE, AGENT = range(7, 13)
PAYLOAD, CORRELATION = 15, 17

LENGTHS: Mapping[int, int] = {
    FAMILY: 1, PROTOCOL: 1, V4_SOURCE: 4, V4_TARGET: 4, V6_SOURCE: 16, V6_TARGET: 16,
    SOURCE_PORT: 2, TARGET_PORT: 2, SECONDS: 4, MICROSECONDS: 4, TYPE: 1, AGENT: 4,
}  # fmt: skip
"""Bytes of the values that have a fixed length."""

ADDRESSES: Mapping[int, tuple[int, int]] = {2: (V4_SOURCE, V4_TARGET), 10: (V6_SOURCE, V6_TARGET)}
"""Chunks of source and target by address family (AF_INET, AF_INET6 of Linux)."""


@dataclass(frozen=True, slots=True)
class HepPacket:
    """One captured message: `source` and `target` as IP address and port, `at` in seconds since 1970.

    `transport`: number of the IP protocol (17 UDP, 6 TCP). `agent`: capture node. `correlation`: "" without one.
    """

    source: tuple[str, int]
    target: tuple[str, int]
    transport: int
    at: float
    agent: int
    correlation: str
    payload: bytes

    @property
    def sip(self) -> Message:
        """The SIP message in it; raises `BadMessage` where it is none."""
        return parse(self.payload)


def unpack(data: bytes) -> HepPacket:
    """Takes one packet apart. Raises ValueError saying what does not follow the document."""
    if data[:4] != MAGIC:
        raise ValueError(f"begins with {data[:4]!r}")
    if len(data) < 6 or int.from_bytes(data[4:6], "big") != len(data):
        raise ValueError(f"says a length of {int.from_bytes(data[4:6], 'big')}, has {len(data)} bytes")
    chunks = _chunks(data[6:])
    try:
        if chunks[TYPE] != bytes([SIP]):
            raise ValueError(f"protocol type {chunks[TYPE][0]} is not SIP")
        source, target = ADDRESSES[chunks[FAMILY][0]]
        return HepPacket(
            source=(str(ipaddress.ip_address(chunks[source])), int.from_bytes(chunks[SOURCE_PORT], "big")),
            target=(str(ipaddress.ip_address(chunks[target])), int.from_bytes(chunks[TARGET_PORT], "big")),
            transport=chunks[PROTOCOL][0],
            at=int.from_bytes(chunks[SECONDS], "big") + int.from_bytes(chunks[MICROSECONDS], "big") / 1e6,
            agent=int.from_bytes(chunks[AGENT], "big"),
            correlation=chunks.get(CORRELATION, b"").decode(),
            payload=chunks[PAYLOAD],
        )
    except KeyError as error:
        raise ValueError(f"chunk or address family {error} is missing or unknown") from error


def pack(packet: HepPacket) -> bytes:
    """The bytes of an IPv4 packet without a correlation."""
    values = {
        FAMILY: bytes([2]),
        PROTOCOL: bytes([packet.transport]),
        V4_SOURCE: ipaddress.IPv4Address(packet.source[0]).packed,
        V4_TARGET: ipaddress.IPv4Address(packet.target[0]).packed,
        SOURCE_PORT: packet.source[1].to_bytes(2, "big"),
        TARGET_PORT: packet.target[1].to_bytes(2, "big"),
        SECONDS: int(packet.at).to_bytes(4, "big"),
        MICROSECONDS: round(packet.at % 1 * 1e6).to_bytes(4, "big"),
        TYPE: bytes([SIP]),
        AGENT: packet.agent.to_bytes(4, "big"),
        PAYLOAD: packet.payload,
    }
    chunks = b"".join(CHUNK.pack(GENERIC, kind, CHUNK.size + len(value)) + value for kind, value in values.items())
    return MAGIC + (6 + len(chunks)).to_bytes(2, "big") + chunks


def _chunks(data: bytes) -> dict[int, bytes]:
    """Values of the generic chunks by type."""
    found: dict[int, bytes] = {}
    while data:
        if len(data) < CHUNK.size:
            raise ValueError(f"{len(data)} bytes follow the last chunk")
        vendor, kind, length = CHUNK.unpack_from(data)
        if not CHUNK.size <= length <= len(data):
            raise ValueError(f"chunk {kind:#06x} says a length of {length}, {len(data)} bytes are left")
        value, data = data[CHUNK.size : length], data[length:]
        if vendor != GENERIC:
            continue
        if kind in found:
            raise ValueError(f"chunk {kind:#06x} comes twice")
        if kind in LENGTHS and len(value) != LENGTHS[kind]:
            raise ValueError(f"chunk {kind:#06x} has {len(value)} bytes of value")
        found[kind] = value
    return found


@dataclass
class Homer(asyncio.DatagramProtocol):
    """`packets`: what came; `raw`: the same as bytes; `malformed`: why others were none; `port`: of UDP and TCP.

    `senders`: UDP sockets that sent something.
    """

    port: int = 0
    packets: list[HepPacket] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)
    senders: set[tuple[str, int]] = field(default_factory=set)
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.senders.add(addr)
        self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            self.packets.append(unpack(data))
            self.raw.append(data)
        except ValueError as error:
            self.malformed.append(str(error))
        self._came.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes one TCP connection's packets, which follow each other without a gap."""
        try:
            while head := await reader.readexactly(6):
                length = int.from_bytes(head[4:], "big")
                self._take(head + await reader.readexactly(max(0, length - 6)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def saw(self, wanted: Callable[[list[HepPacket]], bool], seconds: float = 10.0) -> bool:
        """Waits until `wanted` holds for the packets; False where it does not within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while not wanted(self.packets):
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            return False
        return True


@asynccontextmanager
async def capturing() -> AsyncIterator[Homer]:
    """Runs it on a port of 127.0.0.1 that is free for UDP and TCP."""
    homer = Homer()
    server = await asyncio.start_server(homer.serve, "127.0.0.1", 0)
    homer.port = server.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_datagram_endpoint(lambda: homer, local_addr=("127.0.0.1", homer.port))
        try:
            yield homer
        finally:
            transport.close()
    finally:
        server.close()
        await server.wait_closed()
