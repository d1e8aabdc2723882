"""A trunk that says what a test words for it: SIP dialogs by way of proxies, over UDP or TCP, and media of its own.

async with Trunk.open(stack.edge) as trunk, Voice() as voice:
    dialog = trunk.dialog("1000")
    await dialog.call(voice.sdp())
    assert await voice.hears_itself(media_of(answer), 700)
    await dialog.bye()
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from connector.app import SystemClock
from connector.audio import Audio, Samples
from connector.codec.registry import make_codec
from connector.codec.resample import resample
from connector.rtp.packet import RtpPacket
from connector.sip.message import (
    Address,
    Message,
    Request,
    Response,
    encode,
    parse,
    parse_name_addr,
    respond,
    split_list,
)
from tests.e2e.opensips import Stack
from tests.fakes.audio import FRAME, level_db, purity_db, rtp_stream, tone
from tests.fakes.rtp_peer import RtpPeer

CLOCK = SystemClock()

WINDOW = 1600
"""Samples, 0.2 s: the shortest tone that is heard."""

KEYS = "0123456789*#ABCD"
"""By their event code (RFC 4733 section 3.2)."""


class Trunk(asyncio.Protocol):
    """One socket at a trunk's side. A request of the far end that no test waits for is kept with its dialog."""

    def __init__(self, transport: str) -> None:
        self.transport = transport
        self.dialogs: dict[str, Dialog] = {}
        self._socket: Any = None
        self._buffer = b""

    @classmethod
    @asynccontextmanager
    async def open(cls, edge: Address, transport: str = "udp") -> AsyncIterator[Trunk]:
        """A trunk on a free port of 127.0.0.1 that calls `edge`."""
        trunk = cls(transport)
        loop = asyncio.get_running_loop()
        if transport == "udp":
            opened: Any = await loop.create_datagram_endpoint(
                lambda: _Datagrams(trunk), local_addr=("127.0.0.1", 0), remote_addr=edge
            )
        else:
            opened = await loop.create_connection(lambda: trunk, *edge)
        trunk._socket = opened[0]
        try:
            yield trunk
        finally:
            trunk._socket.close()
            await asyncio.sleep(0)

    @property
    def address(self) -> str:
        """HOST:PORT of its socket."""
        host, port = self._socket.get_extra_info("sockname")[:2]
        return f"{host}:{port}"

    @property
    def edge(self) -> str:
        """HOST:PORT of whom it calls."""
        host, port = self._socket.get_extra_info("peername")[:2]
        return f"{host}:{port}"

    def dialog(self, number: str, *, calling: str = "200") -> Dialog:
        """A call to `number`, before its INVITE."""
        dialog = Dialog(self, number, calling)
        self.dialogs[dialog.call_id] = dialog
        return dialog

    def send(self, text: str) -> None:
        if self.transport == "udp":
            self._socket.sendto(text.encode())
        else:
            self._socket.write(text.encode())

    def data_received(self, data: bytes) -> None:
        """TCP: messages end where their Content-Length says (RFC 3261 section 18.3)."""
        self._buffer += data
        while (head := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = re.search(rb"(?im)^(?:content-length|l)\s*:\s*(\d+)", self._buffer[:head])
            end = head + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < end:
                return
            message, self._buffer = self._buffer[:end], self._buffer[end:]
            self.take(message)

    def take(self, data: bytes) -> None:
        """A whole message."""
        if data.strip():
            message = parse(data)
            dialog = self.dialogs.get(message.headers["Call-ID"])
            if dialog is not None:
                dialog.take(message)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, trunk: Trunk) -> None:
        self._trunk = trunk

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._trunk.take(data)


class Dialog:
    """A call that the trunk makes (RFC 3261 section 12.1.2). A BYE of the far end is answered by itself.

    `received`: all that came, in order. `branch`: of its last request.
    """

    _numbers = itertools.count(random.randrange(10**6))

    def __init__(self, trunk: Trunk, number: str, calling: str) -> None:
        unique = next(self._numbers)
        self.call_id = f"trunk-{unique}@127.0.0.1"
        self.received: list[Message] = []
        self._trunk = trunk
        self._uri = f"sip:{number}@{trunk.edge}"
        self._from = f"<sip:{calling}@{trunk.address}>;tag=trunk{unique}"
        self._to = f"<{self._uri}>"
        self._target = self._uri
        self._routes: list[str] = []
        self._cseq = 0
        self.branches = itertools.count()
        self.branch = ""
        self._looked = 0
        self._news = asyncio.Event()

    # ---------------------------------------------------------------- what comes

    def take(self, message: Message) -> None:
        self.received.append(message)
        if isinstance(message, Request) and message.method == "BYE":
            self.reply(message, 200)
        self._news.set()

    async def _next(self, wanted: Callable[[Message], bool], seconds: float) -> Message:
        """The first message that is `wanted` of those not looked at yet."""
        async with asyncio.timeout(seconds):
            while True:
                while self._looked < len(self.received):
                    self._looked += 1
                    if wanted(self.received[self._looked - 1]):
                        return self.received[self._looked - 1]
                self._news.clear()
                await self._news.wait()

    async def response(self, status: int, method: str = "INVITE", seconds: float = 8.0) -> Response:
        """The next response `status` to `method`; what comes before it is passed over."""

        def wanted(message: Message) -> bool:
            return isinstance(message, Response) and (message.code, message.cseq.method) == (status, method)

        found = await self._next(wanted, seconds)
        assert isinstance(found, Response)
        return found

    async def final(self, method: str, seconds: float = 8.0) -> Response:
        """The final response to our last `method`."""

        def wanted(message: Message) -> bool:
            return (
                isinstance(message, Response)
                and message.code >= 200
                and (message.cseq.sequence, message.cseq.method) == (self._cseq, method)
            )

        found = await self._next(wanted, seconds)
        assert isinstance(found, Response)
        return found

    async def request(self, method: str, seconds: float = 8.0) -> Request:
        """The next request of the far end with `method`."""
        found = await self._next(lambda m: isinstance(m, Request) and m.method == method, seconds)
        assert isinstance(found, Request)
        return found

    def count(self, status: int, method: str = "INVITE") -> int:
        """How many responses `status` to `method` came."""
        return sum(isinstance(m, Response) and (m.code, m.cseq.method) == (status, method) for m in self.received)

    # ---------------------------------------------------------------- what is said

    def send(self, method: str, body: str = "", headers: str = "", *, new: bool = True) -> None:
        """A request; not `new`: with branch and CSeq of the one before (a retransmission, ACK to a refusal, CANCEL).

        `headers`: whole lines with CRLF.
        """
        if new and method != "ACK":
            self._cseq += 1
        if new:
            self.branch = f"z9hG4bK-{self.call_id[:-10]}-{next(self.branches)}"
        self._send(method, self.branch, body, headers)

    def _send(self, method: str, branch: str, body: str, headers: str, *, uri: str = "", sequence: int = 0) -> None:
        if body and "content-type:" not in headers.lower():
            headers += "Content-Type: application/sdp\r\n"
        routes = "".join(f"Route: {route}\r\n" for route in self._routes)
        transport = self._trunk.transport
        self._trunk.send(
            f"{method} {uri or self._target} SIP/2.0\r\n"
            f"Via: SIP/2.0/{transport.upper()} {self._trunk.address};rport;branch={branch}\r\n{routes}"
            f"From: {self._from}\r\nTo: {self._to}\r\nCall-ID: {self.call_id}\r\n"
            f"CSeq: {sequence or self._cseq} {method}\r\nMax-Forwards: 70\r\n"
            f"Contact: <sip:trunk@{self._trunk.address};transport={transport}>\r\n"
            f"{headers}Content-Length: {len(body.encode())}\r\n\r\n{body}"
        )

    def reply(self, request: Request, status: int, body: str = "") -> None:
        """Answers a request of the far end."""
        response = respond(request, status, to_tag="")
        response.headers.set("Contact", f"<sip:trunk@{self._trunk.address};transport={self._trunk.transport}>")
        if body:
            response.headers.set("Content-Type", "application/sdp")
            response.body = body.encode()
        self._trunk.send(encode(response).decode())

    def accept(self, answer: Response) -> None:
        """Takes tag, route set and target of a 2xx to INVITE."""
        self._to = answer.headers["To"]
        recorded = [route for line in answer.headers.getlist("Record-Route") for route in split_list(line)]
        self._routes = self._routes or recorded[::-1]
        self._target = str(parse_name_addr(answer.headers["Contact"]).uri)

    async def call(self, body: str = "", headers: str = "", *, ack: str = "") -> Response:
        """INVITE, 200, ACK; `ack`: the answer to an offer in the 200."""
        self.send("INVITE", body, headers)
        answer = await self.final("INVITE")
        assert answer.code == 200, answer
        self.accept(answer)
        self.send("ACK", ack)
        return answer

    async def refused(self, body: str = "", headers: str = "") -> Response:
        """INVITE, the refusal, ACK."""
        self.send("INVITE", body, headers)
        refusal = await self.final("INVITE")
        assert refusal.code >= 300, refusal
        self.acknowledge(refusal)
        return refusal

    def acknowledge(self, refusal: Response) -> None:
        """ACK to a refusal, hop by hop (RFC 3261 section 17.1.1.3)."""
        to, self._to = self._to, refusal.headers["To"]
        self._send("ACK", self.branch, "", "", sequence=refusal.cseq.sequence)
        self._to = to

    async def ask(self, method: str, body: str = "", headers: str = "") -> Response:
        """The final response to a request other than INVITE."""
        self.send(method, body, headers)
        return await self.final(method)

    async def bye(self) -> None:
        """Hangs up."""
        answer = await self.ask("BYE")
        assert answer.code == 200, answer


# ------------------------------------------------------------------------------------------- media


def sdp(port: int, *, formats: str = "0 8 101", lines: str = "", version: int = 1, address: str = "127.0.0.1") -> str:
    """An offer or answer with one audio stream; `lines`: more of its lines, with CRLF."""
    return (
        f"v=0\r\no=trunk 1 {version} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP {formats}\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n{lines}"
    )


def media_of(message: Message | str) -> Address:
    """Where `message`, or the SDP itself, wants audio."""
    text = message if isinstance(message, str) else message.body.decode()
    address, port = re.search(r"c=IN IP4 (\S+)", text), re.search(r"m=audio (\d+)", text)
    assert address is not None, text
    assert port is not None, text
    return address[1], int(port[1])


class Voice(RtpPeer):
    """RTP of a call, on a port of its own. It says tones and listens for them."""

    def __init__(self, codec: str = "PCMU", payload_type: int = 0, address: str = "127.0.0.1") -> None:
        super().__init__(address)
        self._codec = codec
        self._type = payload_type
        self._sequence = random.randrange(1 << 15)
        self._timestamp = random.randrange(1 << 31)
        self._ssrc = random.randrange(1 << 32)
        self._quiet_since = CLOCK.now()

    def sdp(self, **more: Any) -> str:
        """As `sdp`, with this voice's address."""
        return sdp(self.local[1], address=self.local[0], **more)

    async def say(self, hertz: float, seconds: float, to: Address) -> None:
        """A tone, in step with real time."""
        self._pass_silence()
        audio = tone(hertz, seconds, make_codec(self._codec).rate)
        packets = list(rtp_stream(audio, self._codec, self._type, self._sequence, self._timestamp, self._ssrc))
        await self.stream(packets, to, CLOCK)
        self._pass(len(packets), FRAME * len(packets))

    def _pass_silence(self) -> None:
        """What was not sent counts in timestamps, and not in sequence numbers (RFC 3550 section 5.1)."""
        self._pass(0, round(8000 * (CLOCK.now() - self._quiet_since)))

    def _pass(self, packets: int, samples: int) -> None:
        self._sequence = (self._sequence + packets) & 0xFFFF
        self._timestamp = (self._timestamp + samples) & 0xFFFFFFFF
        self._quiet_since = CLOCK.now()

    async def hears_itself(self, to: Address, hertz: float, seconds: float = 0.8) -> bool:
        """Says a tone to an echo; whether it comes back."""
        self.datagrams()
        await self.say(hertz, seconds, to)
        await asyncio.sleep(0.3)
        heard = Audio(self.heard(self._codec, self._type), make_codec(self._codec).rate)
        return heard_tone(resample(heard, 8000).samples, hertz)

    def speak(self, codec: str, payload_type: int) -> None:
        """Another codec from now on, one whose timestamps count 8 kHz, too."""
        self._codec, self._type = codec, payload_type

    async def press(self, keys: str, to: Address, payload_type: int = 101) -> None:
        """Telephone-events (RFC 4733): each key for 100 ms, its end three times."""
        for key in keys:
            self._pass_silence()
            event = bytes((KEYS.index(key),))
            for duration in (160, 320, 480, 640, 800, 800, 800):
                volume = bytes((0x8A if duration == 800 else 0x0A,))
                payload = event + volume + duration.to_bytes(2, "big")
                first = duration == 160
                self.send(
                    RtpPacket(payload_type, self._sequence, self._timestamp, self._ssrc, payload, marker=first), to
                )
                self._sequence = (self._sequence + 1) & 0xFFFF
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.06)

    def pressed(self, payload_type: int = 101) -> str:
        """Keys that have come as telephone-events since the last call."""
        keys: dict[int, str] = {}
        for packet in self.packets():
            if packet.payload_type == payload_type:
                keys[packet.timestamp] = KEYS[packet.payload[0]]
        return "".join(keys.values())


def heard_tone(samples: Samples, hertz: float, purity: float = 25.0) -> bool:
    """Whether a tone of `hertz` lasts for 0.2 s somewhere in `samples` (8 kHz).

    `purity`: dB above all the rest; G.711 has more than 25, codecs made for speech less.
    """
    windows = [samples[start : start + WINDOW] for start in range(0, len(samples) - WINDOW + 1, 400)]
    return any(level_db(window) > -40 and purity_db(window, hertz) > purity for window in windows)


def silent(samples: Samples) -> bool:
    """Whether nobody would hear anything in `samples`."""
    return not len(samples) or int(np.abs(samples.astype(np.int32)).max()) < 200


async def cdr(stack: Stack, call_id: str, within: float = 10.0) -> dict[str, Any]:
    """The record of a call, as soon as it is written."""
    async with asyncio.timeout(within):
        while True:
            for record in await asyncio.to_thread(stack.cdrs):
                if record["call_id"] == call_id:
                    return record
            await asyncio.sleep(0.05)


def ladder(record: dict[str, Any], message: str, *, sent: bool) -> list[str]:
    """The notes of a record's messages that begin with `message`."""
    return [
        step["note"] for step in record["signalling"] if step["sent"] is sent and step["message"].startswith(message)
    ]
