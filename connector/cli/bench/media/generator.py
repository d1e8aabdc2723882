"""The callers: a process that sends and receives the RTP of all calls, and measures.

Reads its `Plan` as a line of JSON from standard input and prints {"ports": [...]}, where the callers are;
reads whom they call, likewise; prints "began" and "ended" around the measured window, then its `Line`
as JSON.

It sleeps until a packet is due, reads what has come for that caller, and sends: what comes waits in the
sockets without harm, since the kernel keeps the time of its arrival (SO_TIMESTAMPNS).
"""

from __future__ import annotations

import gc
import json
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connector.audio import FRAME_SECONDS
from connector.cli.bench.media import voices
from connector.cli.bench.media.figures import Audio, Line, Spread
from connector.cli.bench.media.plan import Plan
from connector.cli.bench.media.voices import Heard
from connector.codec.registry import CODECS, make_codec

SO_TIMESTAMPNS = 35
"""Of Linux' asm-generic/socket.h; Python has no name for it."""
TAIL_SECONDS = 0.3
"""The calls go on for this long after the window, while the connector's figures are read."""
START_SECONDS = 0.1
BUFFER_OCTETS = 1 << 20
LATE_SECONDS = 0.001

FRAME_NS = round(FRAME_SECONDS * 1e9)
_ANCILLARY = socket.CMSG_SPACE(16)
_HEADER = struct.Struct("!BBHII")
_TIMESPEC = struct.Struct("qq")


@dataclass(slots=True)
class Caller:
    """One call. Times are nanoseconds of the wall clock, as the kernel's timestamps are."""

    socket: socket.socket
    says: Sequence[bytes]
    ssrc: int
    payload_type: int
    step: int
    """Units of the RTP clock in a packet."""
    sent: list[int] = field(default_factory=list)
    """When each packet had been sent."""
    received: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Where it is."""
        port: int = self.socket.getsockname()[1]
        return port

    def call(self, port: int) -> None:
        """Who listens at `port` from now on."""
        self.socket.connect(("127.0.0.1", port))

    def send(self) -> None:
        """The next packet; nobody there is nobody's fault."""
        number = len(self.sent)
        header = _HEADER.pack(0x80, self.payload_type, number & 0xFFFF, number * self.step & 0xFFFFFFFF, self.ssrc)
        with suppress(OSError):
            self.socket.send(header + self.says[number % len(self.says)])
        self.sent.append(time.time_ns())

    def read(self) -> None:
        """Takes what has come."""
        with suppress(OSError):
            while True:
                data, ancillary, _, _ = self.socket.recvmsg(2048, _ANCILLARY)
                seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
                self.received.append((seconds * 1_000_000_000 + nanoseconds, data))


def callers(plan: Plan) -> list[Caller]:
    """As many, each with a tone of its own, calling nobody yet."""
    codec = CODECS[plan.codec]
    return [
        Caller(
            _socket(),
            voices.payloads(voices.hertz(number, plan.calls), plan.codec),
            number,
            codec.payload_type,
            round(codec.clock_rate * FRAME_SECONDS),
        )
        for number in range(plan.calls)
    ]


def _socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_OCTETS)
    made.setblocking(False)
    made.bind(("127.0.0.1", 0))
    return made


def talk(calling: Sequence[Caller], plan: Plan, mark: Callable[[str], None]) -> tuple[list[float], int, int]:
    """All calls, spread evenly over 20 ms. Returns how late (s) each packet of the window was, and its bounds (ns).

    `mark` is called with "began" and "ended" at the bounds.
    """
    slot = FRAME_SECONDS / len(calling)
    first, last = round(plan.settle / slot), round((plan.settle + plan.seconds) / slot)
    late: list[float] = []
    began = ended = 0
    start = time.monotonic() + START_SECONDS
    for number in range(last + round(TAIL_SECONDS / slot)):
        if number == first:
            mark("began")
            began = time.time_ns()
        elif number == last:
            ended = time.time_ns()
            mark("ended")
        due = start + number * slot
        caller = calling[number % len(calling)]
        if (left := due - time.monotonic()) > 0:
            time.sleep(left)
        late.append(time.monotonic() - due)
        caller.send()
        caller.read()
    for caller in calling:
        caller.read()
    return late[first:last], began, ended


@dataclass(frozen=True, slots=True)
class Received:
    """The packets of one call within the window. `at`: ns, `sequence`: RTP sequence numbers; shape (n,) int64."""

    at: NDArray[np.int64]
    sequence: NDArray[np.int64]
    payloads: Sequence[bytes]
    ours: bool
    """They are our own packets, returned as they were."""

    @classmethod
    def of(cls, caller: Caller, began: int, ended: int) -> Received:
        """Those that came from `began` to `ended`, ns."""
        kept = [(at, data) for at, data in caller.received if began <= at <= ended and len(data) > _HEADER.size]
        sequence = [int.from_bytes(data[2:4], "big") for _, data in kept]
        return cls(
            np.array([at for at, _ in kept], np.int64),
            np.array(sequence, np.int64),
            [data[_HEADER.size :] for _, data in kept],
            bool(kept) and all(int.from_bytes(data[8:12], "big") == caller.ssrc for _, data in kept),
        )

    def deviations(self) -> NDArray[np.float64]:
        """|interval - 20 ms| of consecutive packets, ms."""
        deviations: NDArray[np.float64] = np.abs(np.diff(self.at)[self._follows] - FRAME_NS) / 1e6
        return deviations

    def deviations_subtracted(self, sent: Sequence[int]) -> NDArray[np.float64]:
        """|interval - interval between the sending of the same two packets|, ms; none where they are not ours."""
        if not self.ours:
            return np.empty(0)
        departed = np.array(sent, np.int64)[self.sequence]
        deviations: NDArray[np.float64] = np.abs(np.diff(self.at - departed)[self._follows]) / 1e6
        return deviations

    @property
    def lost(self) -> int:
        """Sequence numbers that never came."""
        gaps = self._gaps
        return int((gaps[(gaps > 1) & (gaps < 0x8000)] - 1).sum())

    @property
    def disordered(self) -> int:
        """Packets that came after a later one, or twice."""
        gaps = self._gaps
        return int(((gaps == 0) | (gaps >= 0x8000)).sum())

    @property
    def _gaps(self) -> NDArray[np.int64]:
        gaps: NDArray[np.int64] = np.diff(self.sequence) & 0xFFFF
        return gaps

    @property
    def _follows(self) -> NDArray[np.bool_]:
        follows: NDArray[np.bool_] = self._gaps == 1
        return follows


def heard(calling: Sequence[Caller], received: Sequence[Received], codec: str) -> Audio:
    """Whose audio came back to whom."""
    windows = [
        listened(packets.payloads, codec, voices.hertz(number, len(calling))) for number, packets in enumerate(received)
    ]
    packets = _packets(calling, received, codec) if make_codec(codec).memoryless else {}
    return Audio(sum(windows, Heard()), packets, sum(not one.own for one in windows))


def listened(payloads: Sequence[bytes], codec: str, own: int) -> Heard:
    """Whose voice `payloads` of `codec` hold, where `own` is the caller's tone."""
    coder = make_codec(codec)
    samples = [coder.decode(payload) for payload in payloads]
    return voices.listen(np.concatenate(samples), coder.rate, own) if samples else Heard()


def _packets(calling: Sequence[Caller], received: Sequence[Received], codec: str) -> dict[str, int]:
    owners = voices.owners([caller.says for caller in calling])
    coder = make_codec(codec)
    counts = {"own": 0, "other": 0, "silent": 0, "altered": 0}
    for number, packets in enumerate(received):
        for payload in packets.payloads:
            owner = owners.get(payload)
            if owner is not None:
                counts["own" if owner[0] == number else "other"] += 1
            else:
                counts["altered" if np.any(coder.decode(payload)) else "silent"] += 1
    return counts


def round_trips(calling: Sequence[Caller], received: Sequence[Received], codec: str) -> list[float]:
    """From the sending of each packet to its audio's return, ms; none where payloads do not tell."""
    if not make_codec(codec).memoryless:
        return []
    owners = voices.owners([caller.says for caller in calling])
    trips: list[float] = []
    for number, (caller, packets) in enumerate(zip(calling, received, strict=True)):
        sent = np.array(caller.sent, np.int64)
        latest = np.searchsorted(sent, packets.at, side="right") - 1
        for at, newest, payload in zip(packets.at, latest, packets.payloads, strict=True):
            owner, index = owners.get(payload, (-1, 0))
            if owner == number:
                which = newest - (newest - index) % len(caller.says)
                if which >= 0:
                    trips.append((at - sent[which]) / 1e6)
    return trips


def line(plan: Plan, calling: Sequence[Caller], late: Sequence[float], began: int, ended: int) -> Line:
    """The figures of all calls together."""
    received = [Received.of(caller, began, ended) for caller in calling]
    subtracted = [packets.deviations_subtracted(caller.sent) for caller, packets in zip(calling, received, strict=True)]
    return Line(
        pacing=Spread.of(np.concatenate([packets.deviations() for packets in received])),
        pacing_subtracted=Spread.of(np.concatenate(subtracted)),
        late=Spread.of([1000 * seconds for seconds in late]),
        late_share=round(sum(seconds > LATE_SECONDS for seconds in late) / max(1, len(late)), 5),
        round_trip=Spread.of(round_trips(calling, received, plan.codec)),
        sent=len(late),
        received=sum(len(packets.at) for packets in received),
        lost=sum(packets.lost for packets in received),
        disordered=sum(packets.disordered for packets in received),
        audio=heard(calling, received, plan.codec),
    )


def main() -> None:
    plan = Plan(**json.loads(sys.stdin.readline()))
    with suppress(OSError):  # else sleeps last up to 50 µs longer (PR_SET_TIMERSLACK of prctl(2))
        Path("/proc/self/timerslack_ns").write_text("1")
    calling = callers(plan)
    _say(json.dumps({"ports": [caller.port for caller in calling]}))
    for caller, port in zip(calling, json.loads(sys.stdin.readline())["ports"], strict=True):
        caller.call(port)
    gc.disable()
    late, began, ended = talk(calling, plan, _say)
    _say(json.dumps(asdict(line(plan, calling, late, began, ended))))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
