"""From packets to frames."""

from __future__ import annotations

import numpy as np
import pytest

from connector.codec.registry import make_codec
from connector.interfaces import Digit
from connector.receiver.path import ReceivePath
from connector.rtp.packet import RtpPacket
from connector.rtp.session import PayloadKind, RtpSession
from connector.rtp.telephone_event import EventSender
from tests.fakes.audio import FRAME, hears, jittered, level_db, purity_db, rtp_stream, silence, tone


def make_path(codec: str = "PCMU", payload_type: int = 0) -> ReceivePath:
    session = RtpSession(8000, {payload_type: PayloadKind.AUDIO, 101: PayloadKind.EVENT, 13: PayloadKind.COMFORT_NOISE})
    return ReceivePath(session, make_codec(codec))


@pytest.mark.parametrize(("codec", "payload_type"), [("PCMU", 0), ("PCMA", 8)])
@pytest.mark.parametrize("frame", [80, 160, 240, 480])
def test_a_tone_is_heard_as_sent_whatever_the_packet_length(codec: str, payload_type: int, frame: int) -> None:
    path = make_path(codec, payload_type)
    packets = list(rtp_stream(tone(440, 2.4), codec, payload_type, frame=frame))
    heard = []
    sent = 0
    for tick in range(100):
        while sent * frame <= tick * FRAME:
            path.push(packets[sent], tick * 0.02)
            sent += 1
        heard.append(path.pull(tick * 0.02).frame)
    assert {len(item.samples) for item in heard} == {FRAME}
    assert [item.time for item in heard] == pytest.approx([0.02 * tick for tick in range(100)])
    sounding = np.concatenate([item.samples for item in heard[20:]])
    assert hears(sounding, 440)
    assert not any(item.concealed for item in heard[20:])


def test_frames_before_the_first_packet_are_silent_and_marked() -> None:
    path = make_path()
    frames = [path.pull(tick * 0.02).frame for tick in range(5)]
    assert all(frame.concealed and level_db(frame.samples) == -120 for frame in frames)


def test_a_frame_tells_when_its_packet_arrived() -> None:
    path = make_path()
    for index, packet in enumerate(rtp_stream(tone(440, 1.0))):
        path.push(packet, index * 0.02 + 0.003)
        frame, at = path.pull(index * 0.02 + 0.01)
        if index >= 2:
            assert at == pytest.approx((index - 2) * 0.02 + 0.003)
            assert not frame.concealed
    assert path.delay == pytest.approx(0.047)


def test_a_concealed_frame_would_have_arrived_20_milliseconds_after_the_one_before() -> None:
    path = make_path()
    arrivals = []
    for index, packet in enumerate(rtp_stream(tone(440, 0.4))):
        if index != 10:
            path.push(packet, index * 0.02)
        arrivals.append(path.pull(index * 0.02 + 0.01))
    lost = arrivals[12]
    assert lost.frame.concealed
    assert [item.at for item in arrivals[11:14]] == pytest.approx([9 * 0.02, 10 * 0.02, 11 * 0.02])
    assert path.counts.concealed == 3


def test_a_jittery_line_is_heard_as_a_tone() -> None:
    path = make_path()
    arrivals = list(jittered(rtp_stream(tone(440, 6.0)), delay=0.05, jitter=0.06))
    heard = []
    for tick in range(320):
        now = tick * 0.02
        while arrivals and arrivals[0][0] <= now:
            arrival, packet = arrivals.pop(0)
            path.push(packet, arrival)
        heard.append(path.pull(now).frame)
    settled = heard[60:280]
    assert sum(frame.concealed for frame in settled) == 0
    assert hears(np.concatenate([frame.samples for frame in settled]), 440)


def test_padding_and_header_extensions_do_not_sound() -> None:
    path = make_path()
    for index, packet in enumerate(rtp_stream(tone(440, 1.0))):
        wire = packet._replace(csrc=(1, 2), padding=b"\x55" * 15 + b"\x10").serialize()
        path.push(RtpPacket.parse(wire), index * 0.02)
        heard = path.pull(index * 0.02).frame
    assert len(heard.samples) == FRAME
    assert purity_db(heard.samples, 440) > 25


def test_a_key_is_one_digit_and_leaves_no_sound() -> None:
    path = make_path()
    sender = EventSender(8000)
    digits: list[Digit] = []
    packets = list(rtp_stream(silence(1.0)))
    sender.queue("5")
    for index, packet in enumerate(packets):
        event = sender.next()
        if event is not None:
            packet = packet._replace(
                payload_type=101, payload=event.payload, timestamp=packet.timestamp - event.offset, marker=event.marker
            )
        digits += path.push(packet, index * 0.02)
        frame = path.pull(index * 0.02).frame
        digits += path.tick()
        assert level_db(frame.samples) < -60
    assert digits == [Digit("5", 0.1)]


def test_a_new_source_is_heard_from_its_second_packet_on() -> None:
    path = make_path()
    before = list(rtp_stream(tone(440, 0.5)))
    after = list(rtp_stream(tone(1000, 0.5), ssrc=0xBEEF, sequence=60_000, timestamp=7))
    heard = []
    for index, packet in enumerate(before + after):
        path.push(packet, index * 0.02)
        heard.append(path.pull(index * 0.02).frame.samples)
    assert hears(np.concatenate(heard[5:24]), 440)
    assert hears(np.concatenate(heard[30:]), 1000)


def test_spare_delay_is_given_back_in_a_pause_of_speech() -> None:
    path = make_path()
    packets = list(rtp_stream(silence(12.0)))
    tick = 0
    for index, packet in enumerate(packets):
        if index == 50:
            for _ in range(5):  # the network stalls once for 100 ms
                path.pull(tick * 0.02)
                tick += 1
        path.push(packet, tick * 0.02)
        path.pull(tick * 0.02)
        tick += 1
    assert path.jitter_buffer.delay <= 6 * FRAME
    assert path.delay < 0.125


def test_the_path_prints_itself() -> None:
    path = make_path()
    for packet in rtp_stream(tone(440, 0.1)):
        path.push(packet, 0.0)
    assert str(path) == "RTP from 0000cafe → jitter buffer 140 ms → PCMU 8000 Hz → concealment → frames"
