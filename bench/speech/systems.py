"""The receivers under test. Each takes a trace's packets and says what it played, and when.

All but pjsua2 compute in this process, in the trace's own time: at each tick a receiver is given
the packets that have arrived since the last one, then asked for 20 ms.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.speech.material import FRAME
from bench.speech.network import Arrival, Trace
from connector.audio import FRAME_SECONDS, Samples
from connector.codec.g711 import MuLaw
from connector.receiver.path import ReceivePath
from connector.rtp.packet import RtpPacket
from connector.rtp.session import PayloadKind, RtpSession

PCMU = 0
"""Its payload type (RFC 3551 section 6)."""
SSRC = 0x5EEC4
FIRST_SEQUENCE, FIRST_TIMESTAMP = 65500, 4_294_960_000
"""Both wrap within the first seconds, as they may."""
FIXED_DELAY = 0.06
"""Of `zero-fill`, seconds."""


@dataclass(frozen=True, slots=True)
class Played:
    """`samples`: shape (n,) int16 at 8 kHz, the first of them played at `start`, seconds on the sender's clock.

    `delays`: from arrival to playout of each packet, seconds, where the system has no timeline to read it from.
    """

    samples: Samples
    start: float
    delays: NDArray[np.float64] | None = None


System = Callable[[Sequence[bytes], Trace], Played]


def voxtrunk(payloads: Sequence[bytes], trace: Trace) -> Played:
    """The receive path, driven as a leg drives it."""
    path = receive_path()
    frames = []
    for tick, arrivals in slots(trace):
        for arrival in arrivals:
            path.push(rtp_packet(payloads, arrival.packet), arrival.at)
        frames.append(path.pull(tick).frame.samples)
        path.tick()
    return Played(np.concatenate(frames), trace.phase)


def receive_path() -> ReceivePath:
    """A leg's, for PCMU."""
    codec = MuLaw()
    return ReceivePath(RtpSession(codec.clock_rate, {PCMU: PayloadKind.AUDIO}), codec)


def zero_fill(payloads: Sequence[bytes], trace: Trace) -> Played:
    """A fixed playout delay, and silence for what is not there by then: what every receiver must beat."""
    codec = MuLaw()
    frames = []
    waiting: dict[int, Samples] = {}
    offset: int | None = None
    for slot, (tick, arrivals) in enumerate(slots(trace)):
        for arrival in arrivals:
            if offset is None:
                # The first packet's turn is the last tick within its delay.
                offset = slot + int((arrival.at + FIXED_DELAY - tick) / FRAME_SECONDS) - arrival.packet
            waiting[arrival.packet] = codec.decode(payloads[arrival.packet])
        nothing = np.zeros(FRAME, np.int16)
        frames.append(nothing if offset is None else waiting.get(slot - offset, nothing))
    return Played(np.concatenate(frames), trace.phase)


def aiortc(payloads: Sequence[bytes], trace: Trace) -> Played:
    """aiortc's jitter buffer and decoder, as its RTCRtpReceiver wires them (aiortc 1.16, rtcrtpreceiver.py).

    A frame leaves the jitter buffer (`capacity=16, prefetch=4` for audio) once the next four packets are
    there. Before a missing packet it therefore stops, until the buffer's 16 places are full; each packet
    that comes from then on pushes the oldest one out unplayed, up to and including the missing one. So a
    lost packet costs the three or four before it too, and from then on all frames are some 300 ms late.
    Nothing is concealed and there is no playout clock: `track.recv()` hands frames out as they come, and
    what is missing shows as a jump of `pts` alone. Here each frame is put where its `pts` says, silence
    where there is none, which is the best that an application can do with them; one that takes them one
    after the other, as `MediaRecorder` does into a WAV file, loses that time as well. Delays are from a
    packet's arrival to `recv()`.
    """
    from aiortc.codecs import PCMU_CODEC, depayload, get_decoder
    from aiortc.jitterbuffer import JitterBuffer
    from aiortc.rtp import RtpPacket as AiortcPacket

    buffer: Any
    decoder: Any
    buffer, decoder = JitterBuffer(capacity=16, prefetch=4), get_decoder(PCMU_CODEC)
    samples = np.zeros(len(payloads) * FRAME, np.int16)
    arrived: dict[int, float] = {}
    delays = []
    for at, index in trace.arrivals:
        packet: Any = AiortcPacket.parse(rtp_packet(payloads, index).serialize())
        arrived[index] = at
        packet._data = depayload(PCMU_CODEC, packet.payload)
        _, encoded = buffer.add(packet)
        if encoded is None:
            continue
        # The receiver counts `pts` from the first frame that comes out; here from the first packet sent.
        encoded.timestamp = (encoded.timestamp - FIRST_TIMESTAMP) & 0xFFFFFFFF
        for frame in decoder.decode(encoded):
            samples[frame.pts : frame.pts + FRAME] = frame.to_ndarray().reshape(-1)
            delays.append(at - arrived[frame.pts // FRAME])
    return Played(samples, 0.0, np.array(delays))


def pjsua2(payloads: Sequence[bytes], trace: Trace) -> Played:
    """A call of pjsua2 with its defaults, in a process of its own: see pjsua_process.py."""
    packets = [
        [b64encode(rtp_packet(payloads, arrival.packet).serialize()).decode() for arrival in arrivals]
        for _, arrivals in slots(trace)
    ]
    output = subprocess.run(
        [sys.executable, "-P", Path(__file__).with_name("pjsua_process.py")],
        input=json.dumps(packets).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    ).stdout
    return Played(np.frombuffer(output, "<i2").astype(np.int16), trace.phase)


SYSTEMS: Mapping[str, System] = {
    "voxtrunk": voxtrunk,
    "zero-fill": zero_fill,
    "pjsua2": pjsua2,
    "aiortc": aiortc,
}
"""By their names; the first is ours."""
PACKAGES: Mapping[str, str] = {"pjsua2": "pjsua2", "aiortc": "aiortc"}
"""What a system needs, by its name."""


def missing(system: str) -> str | None:
    """The package that `system` needs and that is not installed."""
    package = PACKAGES.get(system)
    return package if package and importlib.util.find_spec(package) is None else None


def slots(trace: Trace) -> Iterator[tuple[float, list[Arrival]]]:
    """Each tick with the packets that came since the one before."""
    following = 0
    for tick in trace.ticks:
        begin = following
        while following < len(trace.arrivals) and trace.arrivals[following].at <= tick:
            following += 1
        yield tick, list(trace.arrivals[begin:following])


def rtp_packet(payloads: Sequence[bytes], index: int) -> RtpPacket:
    """Packet `index` of the stream."""
    sequence = (FIRST_SEQUENCE + index) & 0xFFFF
    timestamp = (FIRST_TIMESTAMP + index * FRAME) & 0xFFFFFFFF
    return RtpPacket(PCMU, sequence, timestamp, SSRC, payloads[index], marker=index == 0)


def clean_delays(payloads: Sequence[bytes], traces: Sequence[Trace], settled: float) -> NDArray[np.float64]:
    """What our receive path adds on a line without loss and jitter, seconds from a packet's arrival to its frame.

    A value per frame played from `settled` seconds on.
    """
    delays = []
    for trace in traces:
        path = receive_path()
        for tick, arrivals in slots(trace):
            for arrival in arrivals:
                path.push(rtp_packet(payloads, arrival.packet), arrival.at)
            frame, at = path.pull(tick)
            if tick >= settled and not frame.concealed:
                delays.append(tick - at)
    return np.array(delays)
