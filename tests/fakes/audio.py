"""Sound and packets for tests: tones and an oracle that recognises them, streams of RTP, patterns of loss."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from connector.audio import Audio, Samples
from connector.codec.registry import make_codec
from connector.rtp.packet import RtpPacket

RATE = 8000
FRAME = 160


def tone(frequency: float, seconds: float, rate: int = RATE, level: float = 0.25) -> Audio:
    """A sine of `frequency` Hz at `level` of full scale."""
    times = np.arange(round(seconds * rate)) / rate
    return Audio(np.rint(32767 * level * np.sin(2 * np.pi * frequency * times)).astype(np.int16), rate)


def silence(seconds: float, rate: int = RATE) -> Audio:
    """Digital silence."""
    return Audio(np.zeros(round(seconds * rate), np.int16), rate)


def level_db(samples: Samples) -> float:
    """RMS level relative to full scale, dB; -120 for silence."""
    rms = float(np.sqrt(np.mean(samples.astype(np.float64) ** 2))) if len(samples) else 0.0
    return max(-120.0, 20 * float(np.log10(max(rms, 1e-9) / 32768)))


def purity_db(samples: Samples, frequency: float, rate: int = RATE) -> float:
    """How far the tone of `frequency` Hz stands out of all the rest, dB: the oracle of what was heard."""
    signal = samples.astype(np.float64)
    times = np.arange(len(signal)) / rate
    basis = np.stack(
        (np.sin(2 * np.pi * frequency * times), np.cos(2 * np.pi * frequency * times), np.ones(len(times)))
    )
    weights, *_ = np.linalg.lstsq(basis.T, signal, rcond=None)
    heard = weights[:2] @ basis[:2]
    rest = signal - heard
    return 10 * float(np.log10(max(float(np.sum(heard**2)), 1e-9) / max(float(np.sum(rest**2)), 1e-9)))


def hears(samples: Samples, frequency: float, rate: int = RATE) -> bool:
    """Whether `samples` are a clear tone of `frequency` Hz, as G.711 passes one."""
    return level_db(samples) > -40 and purity_db(samples, frequency, rate) > 25


def rtp_stream(
    audio: Audio,
    codec: str = "PCMU",
    payload_type: int = 0,
    sequence: int = 1000,
    timestamp: int = 50_000,
    ssrc: int = 0xCAFE,
    frame: int | None = None,
) -> Iterator[RtpPacket]:
    """The packets of `audio` at the codec's rate, `frame` samples each, or 20 ms; numbers wrap as on the wire."""
    encoder = make_codec(codec)
    assert audio.rate == encoder.rate
    frame = frame or encoder.rate // 50
    for index, begin in enumerate(range(0, len(audio.samples), frame)):
        yield RtpPacket(
            payload_type,
            (sequence + index) & 0xFFFF,
            (timestamp + begin * encoder.clock_rate // encoder.rate) & 0xFFFFFFFF,
            ssrc,
            encoder.encode(audio.samples[begin : begin + frame]),
            marker=index == 0,
        )


class LossPattern:
    """Which packets are lost, drawn as a Gilbert-Elliott channel: bursts of loss between good times.

    `loss`: share of packets lost in the long run; `burst`: mean number lost in a row.
    """

    def __init__(self, loss: float, burst: float = 1.0, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._leave = 1 / burst
        self._enter = loss * self._leave / (1 - loss)
        self._bad = False

    def lost(self) -> bool:
        """Whether the next packet is lost."""
        self._bad = self._random.random() < ((1 - self._leave) if self._bad else self._enter)
        return self._bad


def jittered(
    packets: Iterable[RtpPacket], delay: float, jitter: float, seed: int = 1, ptime: float = 0.02
) -> Sequence[tuple[float, RtpPacket]]:
    """Packets with arrival times, in the order in which they arrive: `delay` plus up to `jitter` seconds each."""
    draw = random.Random(seed)
    arrivals = [(index * ptime + delay + draw.uniform(0, jitter), packet) for index, packet in enumerate(packets)]
    return sorted(arrivals, key=lambda arrival: arrival[0])
