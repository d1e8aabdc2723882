"""What a leg measures of its call, and its RTCP, in virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connector.leg.rtp_audio import RtpAudio
from connector.rtp import rtcp
from connector.rtp.e_model import GOOD_FROM
from tests.fakes.audio import rtp_stream, silence, tone
from tests.fakes.clock import LoopClock, virtual_time
from tests.fakes.rtp_peer import RtpPeer
from tests.scenarios.test_rtp_audio import call


def answer_to(report: bytes, lost: int, jitter: int = 0) -> bytes:
    """A far end's report that answers ours at once."""
    sent = rtcp.parse(report)[0]
    assert isinstance(sent, rtcp.SenderReport)
    block = rtcp.ReportBlock(sent.ssrc, 26, lost, sent.packets, jitter, rtcp.middle(sent.ntp), 0)
    return rtcp.serialize([rtcp.ReceiverReport(0xCAFE, (block,)), rtcp.SourceDescription(0xCAFE, "far")])


@virtual_time
async def test_a_stretch_of_loss_shows_in_the_worst_window() -> None:
    async with call() as (audio, _, peer, _):
        early = None
        for n, packet in enumerate(rtp_stream(tone(440, 30.0))):
            if not (500 < n < 1000 and n % 10 == 5):
                peer.send(packet, audio.local)
            await LoopClock().sleep(0.02)
            if n == 200:
                early = audio.statistics.mos
        assert early is not None, "known after seconds, while the call goes on"
        assert early > GOOD_FROM
        media = audio.statistics
        assert media.mos is not None
        assert media.mos_worst is not None
        assert media.mos_worst < 3.6 < media.mos < early
        assert media.loss == pytest.approx(media.lost / 1500, abs=0.001)
        assert media.missed == media.lost == 50
        assert media.codecs == ["PCMU"]
        assert media.streams == 1
        assert media.input_delay_mean is not None
        assert 0 < media.input_delay_mean < 0.2


@virtual_time
async def test_the_far_end_s_reports_tell_how_we_are_heard() -> None:
    async with call() as (audio, _, peer, _):
        assert audio.statistics.remote_mos is None
        with RtpPeer(port=peer.local[1] + 1) as reports:
            lost = 0
            for _ in range(4):
                await peer.stream(rtp_stream(silence(10.0)), audio.local, LoopClock())
                lost += 50
                latest = reports.datagrams()[-1]
                reports.send(answer_to(latest, lost, jitter=80), (audio.local[0], audio.local[1] + 1))
            await LoopClock().sleep(0.05)
        media = audio.statistics
        assert media.remote_lost == 200
        assert media.remote_loss == pytest.approx(0.1, abs=0.01)
        assert media.remote_jitter == 0.01
        assert media.remote_mos is not None
        assert media.mos is not None
        assert media.remote_mos < media.mos - 0.5
        assert media.round_trip_max is not None


async def settled(audio: RtpAudio, peer: RtpPeer) -> list[bytes]:
    """Ten seconds of a call; what came at the peer's port."""
    await peer.stream(rtp_stream(silence(10.0)), audio.local, LoopClock())
    return peer.datagrams()


@virtual_time
async def test_reports_share_the_port_of_rtp_where_that_was_agreed_on() -> None:
    """RFC 5761."""
    async with call() as (audio, listener, peer, target):
        audio.configure(replace(target, rtcp_port=target.port))
        came = await settled(audio, peer)
        reports = [data for data in came if rtcp.is_rtcp(data)]
        assert 1 <= len(reports) <= 9
        assert len(came) - len(reports) > 490, "RTP"
        peer.send(answer_to(reports[-1], 25), audio.local)
        with RtpPeer("127.0.0.9") as stranger:
            stranger.send(answer_to(reports[-1], 400), audio.local)
            await LoopClock().sleep(0.05)
        media = audio.statistics
        assert (media.remote_lost, media.strangers, media.malformed, media.unknown_payload_type) == (25, 1, 0, 0)
        assert media.received == 500
        peer.send(b"\x80\xc8\x00\x01", audio.local)
        await LoopClock().sleep(0.05)
        assert audio.statistics.malformed == 1
        peer.datagrams()
        await audio.aclose()
        assert isinstance(rtcp.parse(peer.datagrams()[-1])[-1], rtcp.Goodbye)
        assert listener.frames


@virtual_time
async def test_rtcp_on_the_port_of_rtp_is_none_of_ours_where_that_was_not_agreed_on() -> None:
    async with call() as (audio, _, peer, _):
        came = await settled(audio, peer)
        assert not [data for data in came if rtcp.is_rtcp(data)]
        peer.send(rtcp.serialize([rtcp.ReceiverReport(1)]), audio.local)
        await LoopClock().sleep(0.05)
        assert audio.statistics.remote_lost is None


@virtual_time
async def test_reports_go_to_the_port_that_the_peer_names() -> None:
    """RFC 3605."""
    async with call() as (audio, _, peer, target):
        with RtpPeer() as control:
            audio.configure(replace(target, rtcp_port=control.local[1]))
            await settled(audio, peer)
            reports = control.datagrams()
            assert reports
            control.send(answer_to(reports[-1], 25), (audio.local[0], audio.local[1] + 1))
            await LoopClock().sleep(0.05)
            assert audio.statistics.remote_lost == 25
