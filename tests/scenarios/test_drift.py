"""A far end whose clock is not ours: over hours the buffer would run empty, or full."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from connector.audio import FRAME_SECONDS, Audio
from connector.codec.registry import make_codec
from connector.receiver.path import ReceivePath
from connector.rtp.packet import RtpPacket
from connector.rtp.session import PayloadKind, RtpSession
from tests.fakes.audio import FRAME, rtp_stream

PHASE = 0.007


def conversation() -> list[bytes]:
    """Six seconds of payloads: four of a voice, whose pitch moves, then two of a pause."""
    times = np.arange(6 * 8000) / 8000
    phase = 2 * np.pi * (130 * times + 8 * np.sin(2 * np.pi * 0.7 * times))
    voice = np.sin(phase) + 0.6 * np.sin(2 * phase) + 0.4 * np.sin(3 * phase)
    syllables = np.where(times < 4, 0.55 + 0.45 * np.sin(2 * np.pi * 2.5 * times), 0)
    samples = (5000 * voice * syllables).astype(np.int16)
    return [packet.payload for packet in rtp_stream(Audio(samples, 8000))]


def hold_a_call(hours: float, drift: float) -> None:
    """The far end's packets come `drift` too slowly (or too fast, below 0); the call must not tell."""
    payloads = conversation()
    steepest = max(
        int(np.abs(np.diff(make_codec("PCMU").decode(payload).astype(np.int32))).max()) for payload in payloads
    )
    path = ReceivePath(RtpSession(8000, {0: PayloadKind.AUDIO}), make_codec("PCMU"))
    adjustments: list[float] = []
    sent = 0
    last = 0
    for tick in range(round(hours * 3600 / FRAME_SECONDS)):
        now = tick * FRAME_SECONDS + PHASE
        while (at := sent * FRAME_SECONDS * (1 + drift)) <= now:
            payload = payloads[sent % len(payloads)]
            path.push(RtpPacket(0, sent & 0xFFFF, sent * FRAME & 0xFFFFFFFF, 1, payload), at)
            sent += 1
        frame, _ = path.pull(now)
        assert not frame.concealed, f"nothing came in time for second {now:.0f}"
        if path.counts.adjusted != len(adjustments):
            adjustments.append(now)
            assert path.delay < 0.06
            samples = frame.samples.astype(np.int32)
            assert max(int(np.abs(np.diff(samples)).max()), abs(int(samples[0]) - last)) <= 1.1 * steepest, "a click"
        last = int(frame.samples[-1])
    assert path.jitter_buffer.missed == 0
    assert len(adjustments) == pytest.approx(hours * 3600 * abs(drift) / FRAME_SECONDS, abs=2), "a packet's worth each"
    assert all(later - earlier >= 60 for earlier, later in pairwise(adjustments)), "at most one a minute"


@pytest.mark.parametrize("drift", [100e-6, -100e-6])
def test_drift_is_followed_seldom_and_unheard(drift: float) -> None:
    hold_a_call(0.5, drift)


@pytest.mark.slow
@pytest.mark.parametrize("drift", [100e-6, -100e-6])
def test_drift_of_a_whole_day_is_followed_seldom_and_unheard(drift: float) -> None:
    hold_a_call(24, drift)
