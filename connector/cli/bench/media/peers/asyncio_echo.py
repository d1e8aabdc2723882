"""A UDP echo on asyncio, a socket per call: what packets cost in this language, before anything is done with them.

    python -m connector.cli.bench.media.peers.asyncio_echo CALLS

Prints {"ports": [...]} and echoes until standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any


class Echo(asyncio.DatagramProtocol):
    """Returns each datagram to its sender."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._transport.sendto(data, addr)


async def serve(calls: int) -> None:
    """Echoes on as many ports, until standard input ends."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    opened = [await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0)) for _ in range(calls)]
    transports = [transport for transport, _ in opened]
    ports = [transport.get_extra_info("sockname")[1] for transport in transports]
    sys.stdout.write(json.dumps({"ports": ports}) + "\n")
    sys.stdout.flush()
    await ended.wait()
    for transport in transports:
        transport.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
