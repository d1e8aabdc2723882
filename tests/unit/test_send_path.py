"""From speech to packets."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from connector.codec.registry import make_codec
from connector.errors import MediaError
from connector.rtp.packet import RtpPacket
from connector.rtp.session import RtpSession
from connector.rtp.telephone_event import TelephoneEvent
from connector.sender.path import SendPath
from tests.fakes.audio import FRAME, hears, level_db, tone


def make_path(codec: str = "PCMU", payload_type: int = 0, telephone_event: int | None = 101) -> SendPath:
    return SendPath(RtpSession(8000, {}), make_codec(codec), payload_type, telephone_event)


def packets(path: SendPath, count: int) -> list[RtpPacket]:
    return [RtpPacket.parse(path.pull().packet) for _ in range(count)]


@pytest.mark.parametrize(("codec", "payload_type"), [("PCMU", 0), ("PCMA", 8)])
def test_speech_is_heard_and_then_silence_goes_on(codec: str, payload_type: int) -> None:
    path = make_path(codec, payload_type)
    path.playout.write(1, tone(440, 1.0, 24_000))
    path.playout.finish(1)
    sent = packets(path, 60)
    heard = np.concatenate([make_codec(codec).decode(packet.payload) for packet in sent])
    assert {packet.payload_type for packet in sent} == {payload_type}
    assert {len(packet.payload) for packet in sent} == {FRAME}
    assert hears(heard[80:7920], 440)
    assert level_db(heard[8100:]) < -70


def test_sequence_and_timestamp_go_on_by_one_frame_each_and_only_the_first_is_marked() -> None:
    path = make_path()
    path.playout.write(1, tone(440, 0.1))
    sent = packets(path, 20)
    path.playout.write(2, tone(440, 0.1))
    sent += packets(path, 20)
    assert {(b.sequence - a.sequence) & 0xFFFF for a, b in pairwise(sent)} == {1}
    assert {(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in pairwise(sent)} == {FRAME}
    assert [packet.marker for packet in sent] == [True] + [False] * 39
    assert len({packet.ssrc for packet in sent}) == 1


def test_after_a_time_without_sending_the_timestamp_has_gone_on_and_the_packet_is_marked() -> None:
    path = make_path()
    (before,) = packets(path, 1)
    path.skip(50)
    (after,) = packets(path, 1)
    assert (after.timestamp - before.timestamp) & 0xFFFFFFFF == 51 * FRAME
    assert (after.sequence - before.sequence) & 0xFFFF == 1
    assert after.marker


def test_a_key_displaces_audio_but_no_speech_is_lost() -> None:
    path = make_path()
    path.playout.write(1, tone(440, 0.4))
    path.playout.finish(1)
    path.send_dtmf("1")
    sent = packets(path, 40)
    keys = [packet for packet in sent if packet.payload_type == 101]
    assert {packet.timestamp for packet in keys} == {sent[0].timestamp}
    assert {TelephoneEvent.parse(packet.payload).event for packet in keys} == {1}
    assert {(b.sequence - a.sequence) & 0xFFFF for a, b in pairwise(sent)} == {1}
    audio = [packet for packet in sent if packet.payload_type == 0]
    assert audio[0].timestamp == (sent[0].timestamp + len(keys) * FRAME) & 0xFFFFFFFF
    heard = np.concatenate([make_codec("PCMU").decode(packet.payload) for packet in audio])
    assert hears(heard[: 20 * FRAME], 440)


def test_keys_need_a_negotiated_payload_type() -> None:
    with pytest.raises(MediaError, match="telephone-event"):
        make_path(telephone_event=None).send_dtmf("1")


def test_the_codec_changes_in_mid_call_and_the_numbers_go_on() -> None:
    path = make_path()
    path.playout.write(1, tone(440, 1.0))
    before = packets(path, 10)
    path.configure(make_codec("PCMA"), 8, None)
    after = packets(path, 10)
    assert after[0].payload_type == 8
    assert after[0].sequence == (before[-1].sequence + 1) & 0xFFFF
    assert after[0].timestamp == (before[-1].timestamp + FRAME) & 0xFFFFFFFF
    assert hears(np.concatenate([make_codec("PCMA").decode(packet.payload) for packet in after]), 440)


@pytest.mark.parametrize(("first", "second"), [("PCMU", "G722"), ("G722", "PCMA"), ("PCMA", "opus"), ("opus", "PCMU")])
def test_a_change_of_rate_in_mid_sentence_is_not_heard(first: str, second: str) -> None:
    """The tone goes on where it was, at its speed, and the position counts seconds of speech."""
    before, after = make_codec(first), make_codec(second)
    path = make_path(first)
    path.playout.write(1, tone(440, 1.0, 24_000))
    heard = [before.decode(packet.payload) for packet in packets(path, 20)]
    path.configure(make_codec(second), 9, None)
    assert path.playout.position.seconds == pytest.approx(0.4)
    emissions = [path.pull() for _ in range(20)]
    wideband = [after.decode(RtpPacket.parse(emission.packet).payload) for emission in emissions]
    assert path.playout.position.seconds == pytest.approx(0.8)
    assert path.rate == after.rate
    assert hears(np.concatenate(heard)[800:], 440, before.rate)
    assert hears(np.concatenate(wideband)[2000:], 440, after.rate)
    time = 0.4 + np.arange(20 * after.rate // 50) / after.rate
    sent = np.concatenate([emission.samples for emission in emissions])
    assert np.abs(sent - 8192 * np.sin(2 * np.pi * 440 * time)).max() < 60


def test_a_new_clock_rate_begins_a_new_stream_and_the_same_does_not() -> None:
    """RFC 7160 section 4.1; G.722 counts 8 kHz, as G.711 does."""
    path = make_path()
    path.playout.write(1, tone(440, 1.0))
    (first,) = packets(path, 1)
    path.configure(make_codec("G722"), 9, 101)
    (second,) = packets(path, 1)
    assert (second.ssrc, second.marker) == (first.ssrc, False)
    assert second.timestamp == (first.timestamp + FRAME) & 0xFFFFFFFF
    path.configure(make_codec("opus"), 96, 101)
    third, fourth = packets(path, 2)
    assert third.ssrc != first.ssrc
    assert (third.marker, fourth.marker) == (True, False)
    assert (fourth.timestamp - third.timestamp) & 0xFFFFFFFF == 960


@pytest.mark.parametrize(("event_rate", "unit"), [(48_000, 960), (8000, 160), (None, 960)])
def test_keys_beside_opus_count_in_the_clock_of_the_events(event_rate: int | None, unit: int) -> None:
    """RFC 4733 section 2.1. Their timestamps are the stream's in any case."""
    path = make_path("opus", 96)
    path.configure(make_codec("opus"), 96, 101, event_rate)
    path.send_dtmf("D")
    sent = packets(path, 12)
    keys = [packet for packet in sent if packet.payload_type == 101]
    events = [TelephoneEvent.parse(packet.payload) for packet in keys]
    assert [event.duration for event in events] == [unit * n for n in (1, 2, 3, 4, 5, 5, 5)]
    assert [event.end for event in events] == [False] * 4 + [True] * 3
    assert {event.event for event in events} == {15}
    assert {packet.timestamp for packet in keys} == {sent[0].timestamp}
    assert [packet.marker for packet in keys] == [True] + [False] * 6


def test_a_long_row_of_keys_is_played_key_by_key() -> None:
    path = make_path()
    keys = "0123456789*#ABCD" * 3
    path.send_dtmf(keys)
    sent = packets(path, 10 * len(keys) + 5)
    events = [packet for packet in sent if packet.payload_type == 101]
    starts = list(dict.fromkeys(packet.timestamp for packet in events))
    assert [events[7 * n].payload[0] for n in range(len(keys))] == [*range(16)] * 3
    assert len(events) == 7 * len(keys)
    assert {(b - a) & 0xFFFFFFFF for a, b in pairwise(starts)} == {10 * FRAME}
    assert [packet.marker for packet in events] == [n % 7 == 0 for n in range(len(events))]


@pytest.mark.parametrize("codec", ["PCMU", "PCMA", "G722", "opus"])
def test_silence_is_silent_in_every_codec(codec: str) -> None:
    path = make_path(codec)
    decoder = make_codec(codec)
    heard = np.concatenate([decoder.decode(packet.payload) for packet in packets(path, 50)])
    assert np.abs(heard).max() <= 16
    assert len(heard) == decoder.rate


def test_what_is_emitted_is_what_the_packet_carries() -> None:
    path = make_path()
    path.playout.write(1, tone(440, 0.1))
    packet, samples = path.pull()
    assert RtpPacket.parse(packet).payload == make_codec("PCMU").encode(samples)


def test_the_path_prints_itself() -> None:
    path = make_path()
    path.playout.write(7, tone(440, 0.1))
    path.playout.pause()
    ssrc = RtpPacket.parse(path.pull().packet).ssrc
    assert str(path) == f"playout of generation 7, paused → PCMU 8000 Hz → RTP as {ssrc:08x}"
