"""From packets to frames."""

from __future__ import annotations

import random

import numpy as np
import pytest

from connector.audio import Audio, Samples
from connector.codec.g711 import MuLaw
from connector.codec.registry import make_codec
from connector.errors import RtpError
from connector.interfaces import Digit
from connector.receiver.path import ReceivePath
from connector.rtp.packet import RtpPacket
from connector.rtp.session import PayloadKind, RtpSession
from connector.rtp.telephone_event import EventSender
from tests.fakes.audio import FRAME, hears, jittered, level_db, purity_db, rtp_stream, silence, tone


def make_path(codec: str = "PCMU", payload_type: int = 0) -> ReceivePath:
    session = RtpSession(8000, {payload_type: PayloadKind.AUDIO, 101: PayloadKind.EVENT, 13: PayloadKind.COMFORT_NOISE})
    return ReceivePath(session, make_codec(codec))


def speech(frame: int = FRAME) -> list[RtpPacket]:
    """24 s of syllables, voiced and not, with pauses."""
    noise = np.random.default_rng(1).normal(0, 1, 24 * 8000)
    times = np.arange(24 * 8000) / 8000
    voice = np.sign(np.sin(2 * np.pi * 120 * times)) + 0.3 * noise
    syllables = np.clip(np.sin(2 * np.pi * 3 * times), 0, 1) * (times % 2 < 1.5)
    return list(rtp_stream(Audio((4000 * voice * syllables).astype(np.int16), 8000), frame=frame))


def steepest(samples: Samples) -> int:
    """The largest step between two neighbours: a click shows here."""
    return int(np.abs(np.diff(samples.astype(np.int32))).max())


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
        assert at == pytest.approx(index * 0.02 + 0.003)
        assert not frame.concealed
    assert path.delay == pytest.approx(0.007)


def test_a_concealed_frame_would_have_arrived_20_milliseconds_after_the_one_before() -> None:
    path = make_path()
    arrivals = []
    for index, packet in enumerate(rtp_stream(tone(440, 0.4))):
        if index != 10:
            path.push(packet, index * 0.02)
        arrivals.append(path.pull(index * 0.02 + 0.01))
    assert [item.frame.concealed for item in arrivals[9:12]] == [False, True, False]
    assert [item.at for item in arrivals[9:12]] == pytest.approx([9 * 0.02, 10 * 0.02, 11 * 0.02])
    assert (path.counts.concealed, path.counts.silent) == (1, 0)


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
        digits += path.push(packet, index * 0.02) or []
        frame = path.pull(index * 0.02).frame
        digits += path.tick()
        assert level_db(frame.samples) < -60
    assert digits == [Digit("5", 0.1)]


def test_what_a_key_displaces_rings_out_at_once_instead_of_being_made_up_for_long() -> None:
    path = make_path()
    packets = list(rtp_stream(tone(200, 0.5, level=0.5)))
    keys = EventSender(8000)
    keys.queue("3")
    heard = []
    for tick, packet in enumerate(packets):
        path.push(packet, tick * 0.02)
        heard.append(path.pull(tick * 0.02).frame.samples)
    last = packets[-1]
    for tick in range(len(packets), len(packets) + 7):
        key = keys.next()
        assert key is not None
        number = tick - len(packets) + 1
        sequence, timestamp = last.sequence + number, last.timestamp + number * FRAME - key.offset
        path.push(RtpPacket(101, sequence, timestamp, last.ssrc, key.payload, key.marker), tick * 0.02)
        heard.append(path.pull(tick * 0.02).frame.samples)
    audible = np.flatnonzero(np.abs(np.concatenate(heard)) > 100)
    assert audible[-1] <= len(packets) * FRAME + FRAME + 40 + path.delay * 8000
    assert steepest(np.concatenate(heard)) < 4000


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
    packets = list(rtp_stream(silence(24.0)))
    tick = 0
    for index, packet in enumerate(packets):
        if index == 50:
            for _ in range(5):  # the network stalls once for 100 ms
                path.pull(tick * 0.02)
                tick += 1
        path.push(packet, tick * 0.02)
        path.pull(tick * 0.02)
        tick += 1
    assert path.jitter_buffer.delay <= FRAME
    assert path.delay <= 0.03
    assert path.counts.adjusted <= 5


@pytest.mark.parametrize("phase", [0.0005, 0.004, 0.01, 0.0195])
@pytest.mark.parametrize("frame", [80, 160, 240, 320])
def test_on_a_clean_line_a_packet_waits_30_milliseconds_at_most_in_the_middle(phase: float, frame: int) -> None:
    path = make_path()
    draw = random.Random(1)
    packets = [(index * frame / 8000 + draw.uniform(0, 0.001), p) for index, p in enumerate(speech(frame))]
    waits: dict[float, float] = {}
    for tick in range(1000):
        now = tick * 0.02 + phase
        while packets[0][0] <= now:
            arrival, packet = packets.pop(0)
            path.push(packet, arrival)
        received = path.pull(now)
        if tick > 100:
            waits.setdefault(received.at, now - received.at)
    assert float(np.median(list(waits.values()))) <= 0.03
    assert path.counts.concealed == 0


def test_wideband_is_heard_with_every_frame_at_16_khz() -> None:
    path = ReceivePath(RtpSession(8000, {9: PayloadKind.AUDIO}), make_codec("G722"))
    encoder = make_codec("G722")
    sent = tone(1000, 2.0, 16_000).samples
    heard = []
    for index in range(100):
        if index % 10 != 7:
            payload = encoder.encode(sent[index * 320 : index * 320 + 320])
            path.push(RtpPacket(9, index, index * 160, 1, payload), index * 0.02)
        heard.append(path.pull(index * 0.02 + 0.01).frame.samples)
    assert {len(samples) for samples in heard} == {320}
    assert level_db(np.concatenate(heard[5:])) == pytest.approx(level_db(sent), abs=1)
    assert path.counts.concealed == 10


def test_suppressed_silence_is_silent_not_lost_and_without_a_click() -> None:
    path = make_path()
    packets = list(rtp_stream(tone(440, 3.0)))
    heard = []
    sequence = 0
    for index, packet in enumerate(packets):
        if not 50 <= index < 100:
            path.push(packet._replace(sequence=sequence), index * 0.02)
            sequence += 1
        heard.append(path.pull(index * 0.02 + 0.01).frame)
    samples = np.concatenate([frame.samples for frame in heard])
    assert (path.counts.concealed, path.counts.silent, path.jitter_buffer.missed) == (0, 50, 0)
    assert level_db(samples[58 * FRAME : 100 * FRAME]) == -120
    assert hears(np.concatenate([frame.samples for frame in heard[105:]]), 440)
    assert steepest(samples) < 1.5 * steepest(tone(440, 1.0).samples)


def test_comfort_noise_is_heard_at_its_level_between_talk_spurts() -> None:
    path = make_path()
    packets = list(rtp_stream(tone(440, 3.0)))
    heard = []
    sequence = 0
    for index, packet in enumerate(packets):
        if index in {50, 75}:
            packet = packet._replace(payload_type=13, payload=b"\x2d")
        if not 50 < index < 100 or index == 75:
            path.push(packet._replace(sequence=sequence), index * 0.02)
            sequence += 1
        heard.append(path.pull(index * 0.02 + 0.01).frame.samples)
    samples = np.concatenate(heard)
    assert level_db(samples[52 * FRAME : 100 * FRAME]) == pytest.approx(-45, abs=1)
    assert steepest(samples) < 1.5 * steepest(tone(440, 1.0).samples)
    assert hears(np.concatenate(heard[102:]), 440)
    assert (path.counts.concealed, path.counts.silent) == (0, 50)


def test_hold_is_silence_that_counts_as_no_loss() -> None:
    path = make_path()
    for index, packet in enumerate(rtp_stream(tone(440, 1.0))):
        path.push(packet, index * 0.02)
        path.pull(index * 0.02)
    for tick in range(50, 5000):
        frame = path.pull(tick * 0.02).frame
    assert level_db(frame.samples) == -120
    for index, packet in enumerate(rtp_stream(tone(440, 1.0), timestamp=50_000 + 5000 * FRAME, sequence=1050)):
        path.push(packet, 100.0 + index * 0.02)
        frame = path.pull(100.0 + index * 0.02).frame
    assert hears(frame.samples, 440)
    assert path.counts.concealed == 0


def test_frames_that_were_lost_or_late_are_counted_as_concealed() -> None:
    path = make_path()
    packets = list(rtp_stream(tone(440, 4.0)))
    for index, packet in enumerate(packets):
        if index not in {30, 31, 90, 195}:
            path.push(packet, index * 0.02)
        if index == 198:
            path.push(packets[195], 198 * 0.02)
        path.pull(index * 0.02 + 0.01)
    assert (path.counts.concealed, path.counts.silent) == (4, 0)
    assert (path.jitter_buffer.missed, path.jitter_buffer.bursts, path.jitter_buffer.late) == (4, 3, 1)


def test_where_the_line_is_lossy_a_gap_is_filled_from_both_sides() -> None:
    path = make_path()
    packets = list(rtp_stream(tone(200, 20.0)))
    errors = []
    for index, packet in enumerate(packets):
        if index % 20 != 7:
            path.push(packet, index * 0.02)
        frame = path.pull(index * 0.02 + 0.01).frame
        if index > 500:
            errors.append(purity_db(frame.samples, 200))
    assert path.counts.adjusted == 1, "one packet more of delay"
    assert min(errors) > 25, "no frame tells that it was made up"


def test_a_jump_over_audio_that_is_too_old_makes_no_click() -> None:
    path = make_path()
    packets = list(rtp_stream(tone(300, 3.0)))
    heard = []
    for index, packet in enumerate(packets):
        if index < 50 or index >= 75:
            path.push(packet, index * 0.02)
        if index == 75:
            for late in packets[60:75]:
                path.push(late, 1.5)
        heard.append(path.pull(index * 0.02 + 0.01).frame.samples)
    assert steepest(np.concatenate(heard)) < 1.5 * steepest(tone(300, 1.0).samples)


def test_a_payload_that_cannot_be_decoded_is_concealed() -> None:
    class Damaged(MuLaw):
        def decode(self, payload: bytes) -> Samples:
            if payload[0] == 0xAA:
                raise RtpError("damaged")
            return super().decode(payload)

    path = ReceivePath(RtpSession(8000, {0: PayloadKind.AUDIO}), Damaged())
    heard = []
    for index, packet in enumerate(rtp_stream(tone(440, 1.0))):
        path.push(packet._replace(payload=b"\xaa" * 160) if index in {20, 21, 30} else packet, index * 0.02)
        heard.append(path.pull(index * 0.02).frame.samples)
        assert index < 5 or hears(heard[-1], 440) or index in {21, 22, 31}
    assert steepest(np.concatenate(heard)) < 1.5 * steepest(tone(440, 1.0).samples)


def test_a_codec_that_can_recover_lost_audio_is_asked_to() -> None:
    class Repeating(MuLaw):
        def recover(self, payload: bytes, count: int) -> Samples:
            return np.full(count, 1234, np.int16)

    path = ReceivePath(RtpSession(8000, {0: PayloadKind.AUDIO}), Repeating())
    heard = []
    for index, packet in enumerate(rtp_stream(tone(440, 1.0))):
        if index != 20:
            path.push(packet, index * 0.02 - (0.02 if index > 20 else 0))
        if index != 20:
            heard.append(path.pull(index * 0.02).frame.samples)
    assert 1234 in np.concatenate(heard)


def test_the_path_prints_itself() -> None:
    path = make_path()
    for packet in rtp_stream(tone(440, 0.1)):
        path.push(packet, 0.0)
    assert str(path) == "RTP from 0000cafe → jitter buffer 100 ms → PCMU 8000 Hz → concealment → frames"
