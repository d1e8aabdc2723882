"""MI commands over UDP: JSON-RPC 2.0 as `mi_datagram` speaks it (OpenSIPS modules/mi_datagram)."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass
from typing import Any

from connector.errors import MediaError, MiRefused, MiTimeout
from connector.interfaces import Clock
from connector.sip.message import hostport
from connector.udp.control import ControlSocket
from connector.udp.latch import Address

REPLY_SECONDS = 0.5
"""How long an attempt waits for its reply; a healthy OpenSIPS takes a tenth of a millisecond."""

ATTEMPTS = 3
"""How often a command of `REPEATABLE` is sent before it is given up."""

IN_FLIGHT = 32
"""Commands under way at once: at 200 OpenSIPS' socket buffer begins to lose some."""

REPEATABLE = frozenset({"uptime", "shv_set", "subscribers_list", "ua_session_list", "ua_session_reply", "t_uac_dlg"})
"""Commands that do no harm when they are done twice, so that a lost datagram need not matter; `t_uac_dlg` sends
nothing but what `UaSessions` ends sessions with."""

RECEIVE_BUFFER = 1 << 20
"""Octets of replies that may wait in the socket."""


@dataclass(slots=True)
class MiCounts:
    """Datagrams that were dropped: replies that came `late` or with an `unknown` id, and `malformed` ones.

    `timeouts`: commands that got no reply at all.
    """

    late: int = 0
    unknown: int = 0
    malformed: int = 0
    timeouts: int = 0


class MiClient:
    """Sends commands to one OpenSIPS and matches its replies, by id; other senders' datagrams never arrive.

    `heard`: clock time of the last reply, None before the first.
    """

    def __init__(self, server: Address, clock: Clock) -> None:
        self.server = server
        self.counts = MiCounts()
        self.heard: float | None = None
        self._clock = clock
        self._places = asyncio.Semaphore(IN_FLIGHT)
        self._first = self._next = random.randrange(1, 2**30)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._socket: ControlSocket | None = None

    def open(self) -> None:
        """Makes the socket. OpenSIPS need not be there yet. Raises `MediaError` where no route leads to it."""
        try:
            self._socket = ControlSocket(self._received, remote=self.server, buffer=RECEIVE_BUFFER)
        except OSError as error:
            raise MediaError(f"MI {hostport(self.server)}: {error.strerror or error}") from error

    def close(self) -> None:
        """Stops at once; commands under way fail with `MiTimeout`. Idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        for reply in self._waiting.values():
            if not reply.done():
                reply.set_exception(MiTimeout("MI was closed"))

    @property
    def waiting(self) -> int:
        """Commands that wait for a reply."""
        return len(self._waiting)

    async def call(self, command: str, /, **parameters: str | int | list[str]) -> Any:
        """The result of `command`.

        Raises `MiRefused` with OpenSIPS' code and message, and `MiTimeout` where no reply came: the
        command may have been done all the same.
        """
        attempts = ATTEMPTS if command in REPEATABLE else 1
        async with self._places:
            reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            # A late reply to the first attempt is as good as one to the last.
            ids = range(self._next, self._next + attempts)
            self._next += attempts
            try:
                for number in ids:
                    self._waiting[number] = reply
                    self._send(number, command, parameters)
                    await asyncio.wait([reply], timeout=REPLY_SECONDS * (ATTEMPTS // attempts))
                    if reply.done():
                        return reply.result()
                self.counts.timeouts += 1
                raise MiTimeout(f"MI {hostport(self.server)} did not answer {command}")
            finally:
                for number in ids:
                    self._waiting.pop(number, None)

    def _send(self, number: int, command: str, parameters: dict[str, str | int | list[str]]) -> None:
        if self._socket is None:
            raise MiTimeout("MI is closed")
        request = {"jsonrpc": "2.0", "method": command, "id": number, "params": parameters}
        if not parameters:
            del request["params"]
        self._socket.send(json.dumps(request).encode())

    def _received(self, data: bytes, source: Address) -> None:
        try:
            number, result = _parse_reply(data)
        except ValueError:
            self.counts.malformed += 1
            return
        self.heard = self._clock.now()
        reply = self._waiting.get(number)
        if reply is None or reply.done():
            if self._first <= number < self._next:
                self.counts.late += 1
            else:
                self.counts.unknown += 1
        elif isinstance(result, MiRefused):
            reply.set_exception(result)
        else:
            reply.set_result(result)


def _parse_reply(data: bytes) -> tuple[int, Any]:
    """The id of a reply, and its result or the error it stands for. Raises ValueError."""
    try:
        # Display names come through as they were received, UTF-8 or not.
        reply = json.loads(data.decode("utf-8", "replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(reply, dict) or type(reply.get("id")) is not int:
        raise ValueError("no reply")
    if "result" in reply:
        return reply["id"], reply["result"]
    error = reply.get("error")
    if not isinstance(error, dict) or type(error.get("code")) is not int:
        raise ValueError("neither a result nor an error")
    return reply["id"], MiRefused(error["code"], str(error.get("message", "")))
