"""What a call's media went through: counters and quality, in the record and while the call goes on."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


def _fine(value: float) -> float:
    return round(value, 6)


def _coarse(value: float) -> float:
    return round(value, 2)


Measure = Annotated[float, AfterValidator(_fine)]
"""Seconds or a share, to six places."""
Mos = Annotated[float, AfterValidator(_coarse)]
"""A MOS, to two places."""


class MediaStatistics(BaseModel):
    """The media of a leg so far. Counters that a port does not have are 0, measures that it does not have are None.

    MOS are those of the E-model (ITU-T G.107), 1 to 4.41; what is remote is what the far end's RTCP reports say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    codecs: list[str] = []
    """Codecs in the order of their first use."""
    received: int = 0
    """Packets that came."""
    lost: int = 0
    """Packets that did not, by their sequence numbers."""
    late: int = 0
    """Of those received: too late to be played."""
    duplicate: int = 0
    """Of those received: a second time."""
    discarded: int = 0
    """Of those received: left out to keep the delay small."""
    missed: int = 0
    """Packets that were not there at their turn: lost, late or discarded ones."""
    bursts: int = 0
    """Gaps that these left."""
    strangers: int = 0
    """Datagrams from elsewhere than the caller."""
    malformed: int = 0
    """Datagrams that are neither RTP nor RTCP."""
    unknown_payload_type: int = 0
    """Packets in a codec that was not agreed on."""
    streams: int = 0
    """Streams (SSRCs) of the caller that were followed, one after the other."""
    sent: int = 0
    """Packets sent."""
    unsent: int = 0
    """Packets that the network stack refused."""
    frames: int = 0
    """20 ms frames handed on."""
    concealed: int = 0
    """Of these: made up, wholly or partly, in place of lost or late packets."""
    silent: int = 0
    """Of these: silence, since the caller sent nothing (silence suppression, hold)."""
    adjusted: int = 0
    """Times that audio was made a little longer or shorter, to follow the line or the caller's clock."""
    loss: Measure | None = None
    """Share of the packets due that were lost, 0 to 1."""
    jitter: Measure | None = None
    """Interarrival jitter at the end, seconds (RFC 3550 section 6.4.1)."""
    jitter_mean: Measure | None = None
    """Its mean over windows of 10 s."""
    jitter_max: Measure | None = None
    """The highest at the end of a window."""
    input_delay: Measure | None = None
    """Seconds from a packet's arrival to its frame, at the end, smoothed: what the jitter buffer costs."""
    input_delay_mean: Measure | None = None
    """Its mean over windows of 10 s."""
    round_trip: Measure | None = None
    """Seconds to the far end and back, at the last report; `null` where the far end reports none."""
    round_trip_mean: Measure | None = None
    """Its mean over windows of 10 s."""
    round_trip_max: Measure | None = None
    """The longest at the end of a window."""
    mos: Mos | None = None
    """MOS of what we hear; `null` under a second of audio."""
    mos_worst: Mos | None = None
    """Of its worst window of 10 s."""
    remote_lost: int | None = None
    """Packets of ours that the far end missed; `null` where it does not report."""
    remote_loss: Measure | None = None
    """Share of our packets that it missed of late, 0 to 1."""
    remote_jitter: Measure | None = None
    """Interarrival jitter of our packets there, seconds."""
    remote_mos: Mos | None = None
    """MOS of what the far end hears; `null` where it does not report."""
    remote_mos_worst: Mos | None = None
    """Of its worst window of 10 s."""
