"""Whatever comes in a datagram is accepted or refused with `RtpError`; accepted RTP is written back as it came."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connector.errors import RtpError
from connector.rtp import rtcp
from connector.rtp.packet import RtpPacket
from connector.rtp.reporter import Reporter
from connector.rtp.session import PayloadKind, RtpSession
from connector.rtp.telephone_event import EventReceiver, TelephoneEvent
from connector.sender.packetizer import Packetizer

RTP = bytes.fromhex("b1e5ffffffffffff0000000100000007000000020011223344556677") + b"\x05\x06\x00\x02"
RTCP = rtcp.serialize(
    [
        rtcp.SenderReport(1, 1 << 40, 160, 50, 8000, (rtcp.ReportBlock(2, 3, 4, 5, 6, 7, 8),)),
        rtcp.SourceDescription(1, "voxtrunk@127.0.0.1"),
        rtcp.Goodbye((1, 2)),
    ]
)


def damaged(valid: bytes) -> st.SearchStrategy[bytes]:
    """`valid`, cut off anywhere, with a few octets changed."""

    def damage(length: int, changes: list[tuple[int, int]]) -> bytes:
        data = bytearray(valid[:length])
        for place, octet in changes:
            if data:
                data[place % len(data)] = octet
        return bytes(data)

    return st.builds(
        damage,
        st.integers(0, len(valid)),
        st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), max_size=4),
    )


@given(st.binary(max_size=300) | damaged(RTP))
def test_rtp_is_accepted_or_refused(data: bytes) -> None:
    try:
        packet = RtpPacket.parse(data)
    except RtpError:
        return
    assert packet.serialize() == data


@given(st.binary(max_size=300) | damaged(RTCP) | damaged(RTCP + RTCP))
def test_rtcp_is_accepted_or_refused(data: bytes) -> None:
    session = RtpSession(8000, {0: PayloadKind.AUDIO})
    reporter = Reporter(session, Packetizer(session), "here", 8000)
    try:
        packets = rtcp.parse(data)
        reporter.receive(data, 1.0)
    except RtpError:
        return
    for packet in packets:
        assert packet.serialize()


@given(st.lists(st.tuples(st.integers(0, 2**34), st.binary(max_size=8)), max_size=60))
def test_telephone_events_are_accepted_or_refused(events: list[tuple[int, bytes]]) -> None:
    receiver = EventReceiver(8000)
    for timestamp, payload in events:
        try:
            digits = receiver.receive(timestamp, TelephoneEvent.parse(payload))
        except RtpError:
            continue
        digits += receiver.tick()
        assert all(digit.seconds >= 0 for digit in digits)
