"""Audio through the whole stack: hold, moved media, late offers, SRTP and codecs that connectors do not speak.

Tones are told apart by their frequency, and each goes both ways.
"""

from __future__ import annotations

import asyncio
import wave
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from connector.app import SystemClock
from connector.audio import Audio, Frame, Samples
from connector.cli.phone.caller import Caller
from connector.codec.resample import resample
from connector.errors import CallFailed
from connector.interfaces import Established, Held, Leg, LegEvent, Resumed, Terminated
from connector.rtp.packet import RtpPacket
from tests.e2e import baresip, pjsua
from tests.e2e.answering import Answering
from tests.e2e.desk import staffed
from tests.e2e.opensips import Stack, installations, running
from tests.e2e.trunk import Dialog, Trunk, Voice, cdr, heard_tone, ladder, media_of, silent
from tests.fakes.audio import purity_db, tone

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLOCK = SystemClock()

needs_pjsua = pytest.mark.skipif(pjsua.missing_reason() is not None, reason=str(pjsua.missing_reason()))
needs_baresip = pytest.mark.skipif(baresip.missing_reason() is not None, reason=str(baresip.missing_reason()))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=installations(), ids=str)
async def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running(request.param, tmp_path_factory.mktemp("stack")) as stack:
        before = await stack.counters()
        yield stack
        await stack.settled(before)


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_left(stack: Stack) -> AsyncIterator[None]:
    """Whatever a test does, OpenSIPS, rtpengine and the connector end up as they began."""
    before = await stack.counters()
    yield
    await stack.settled(before)


@pytest_asyncio.fixture(loop_scope="module")
async def trunk(stack: Stack) -> AsyncIterator[Trunk]:
    async with Trunk.open(stack.edge) as trunk:
        yield trunk


async def reinvite(dialog: Dialog, body: str) -> str:
    """A re-INVITE with SDP; the SDP of its 200."""
    dialog.send("INVITE", body)
    answer = await dialog.final("INVITE")
    assert answer.code == 200, answer
    dialog.accept(answer)
    dialog.send("ACK")
    return answer.body.decode()


# --------------------------------------------------------------------------------------- hold by the caller


@pytest.mark.parametrize(
    ("changed", "answered"),
    [
        (("a=sendrecv", "a=sendonly"), "a=recvonly"),
        (("a=sendrecv", "a=inactive"), "a=inactive"),
        (("c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0"), "a="),
    ],
    ids=["sendonly", "inactive", "0.0.0.0"],
)
async def test_hold_and_resume(stack: Stack, trunk: Trunk, changed: tuple[str, str], answered: str) -> None:
    """Held, the caller hears nothing, though it goes on sending; resumed, itself."""
    dialog = trunk.dialog("1000")
    with Voice() as voice:
        to = media_of(await dialog.call(voice.sdp(lines="a=sendrecv\r\n")))
        assert await voice.hears_itself(to, 500)
        offer = voice.sdp(version=2, lines="a=sendrecv\r\n").replace(*changed)
        assert answered in await reinvite(dialog, offer)
        await asyncio.sleep(0.2)
        voice.datagrams()
        await voice.say(600, 0.6, to)
        await asyncio.sleep(0.2)
        assert silent(voice.heard())
        for version in (3, 4):
            assert "a=sendrecv" in await reinvite(dialog, voice.sdp(version=version, lines="a=sendrecv\r\n"))
            assert await voice.hears_itself(to, 600 + 100 * version)
        await dialog.bye()
    record = await cdr(stack, dialog.call_id)
    offers = ladder(record, "INVITE", sent=False)
    assert len(offers) == 4
    assert record["errors"] == []


async def test_media_that_moves_takes_the_audio_along(stack: Stack, trunk: Trunk) -> None:
    """To another port, to another address, and back."""
    dialog = trunk.dialog("1000")
    with Voice() as first, Voice() as second, Voice(address="127.0.0.2") as third:
        to = media_of(await dialog.call(first.sdp()))
        assert await first.hears_itself(to, 500)
        for version, voice in enumerate((second, third, first), start=2):
            answer = await reinvite(dialog, voice.sdp(version=version))
            assert await voice.hears_itself(media_of(answer), 500 + 100 * version)
        second.datagrams()
        third.datagrams()
        assert await first.hears_itself(to, 1000)
        assert silent(second.heard())
        assert silent(third.heard())
        await dialog.bye()
    assert (await cdr(stack, dialog.call_id))["errors"] == []


# --------------------------------------------------------------------------------------- offers, late and other


async def test_an_invite_without_sdp(stack: Stack, trunk: Trunk) -> None:
    """Our 200 makes the offer, the ACK answers it."""
    dialog = trunk.dialog("1000")
    with Voice("PCMA", 8) as voice:
        offer = await dialog.call(ack=voice.sdp(formats="8 101"))
        assert "PCMU" in offer.body.decode()
        assert await voice.hears_itself(media_of(offer), 700)
        answer = await reinvite(dialog, voice.sdp(formats="8 101", version=2))
        assert await voice.hears_itself(media_of(answer), 900)
        await dialog.bye()
    assert (await cdr(stack, dialog.call_id))["errors"] == []


async def test_a_reinvite_without_sdp(stack: Stack, trunk: Trunk) -> None:
    """The answer in the ACK moves the media."""
    dialog = trunk.dialog("1000")
    with Voice() as first, Voice() as second:
        to = media_of(await dialog.call(first.sdp()))
        assert await first.hears_itself(to, 500)
        dialog.send("INVITE")
        offer = await dialog.final("INVITE")
        assert offer.code == 200
        dialog.accept(offer)
        dialog.send("ACK", second.sdp(version=2, formats="0 101"))
        assert await second.hears_itself(media_of(offer), 700)
        await dialog.bye()
    assert (await cdr(stack, dialog.call_id))["errors"] == []


async def test_an_update_moves_the_media(stack: Stack, trunk: Trunk) -> None:
    dialog = trunk.dialog("1000")
    with Voice() as first, Voice() as second:
        to = media_of(await dialog.call(first.sdp()))
        assert await first.hears_itself(to, 500)
        answer = await dialog.ask("UPDATE", second.sdp(version=2))
        assert answer.code == 200
        assert await second.hears_itself(media_of(answer), 700)
        held = await dialog.ask("UPDATE", second.sdp(version=3, lines="a=sendonly\r\n"))
        assert "a=recvonly" in held.body.decode()
        resumed = await dialog.ask("UPDATE", second.sdp(version=4))
        assert await second.hears_itself(media_of(resumed), 900)
        await dialog.bye()
    assert (await cdr(stack, dialog.call_id))["errors"] == []


async def test_an_offer_that_cannot_be_met_leaves_the_call_as_it_was(stack: Stack, trunk: Trunk) -> None:
    dialog = trunk.dialog("1000")
    with Voice() as voice:
        to = media_of(await dialog.call(voice.sdp()))
        assert await voice.hears_itself(to, 500)
        dialog.send("INVITE", voice.sdp(version=2, formats="96", lines="a=rtpmap:96 MELP/8000\r\n"))
        refusal = await dialog.final("INVITE")
        assert refusal.code == 488
        dialog.acknowledge(refusal)
        assert await voice.hears_itself(to, 700)
        await dialog.bye()


@pytest.mark.parametrize(("codec", "payload_type"), [("PCMU", 0), ("PCMA", 8)])
async def test_a_codec_that_we_speak_is_not_transcoded(
    stack: Stack, trunk: Trunk, codec: str, payload_type: int
) -> None:
    dialog = trunk.dialog("1000")
    with Voice(codec, payload_type) as voice:
        to = media_of(await dialog.call(voice.sdp(formats=f"{payload_type} 101")))
        assert await voice.hears_itself(to, 700)
        await dialog.bye()
    record = await cdr(stack, dialog.call_id)
    assert ladder(record, "INVITE", sent=False)[0].startswith(f"{codec} TELEPHONE-EVENT sendrecv ")
    assert record["media"]["unknown_payload_type"] == 0


async def test_a_caller_changes_to_wideband_and_back_in_mid_call(stack: Stack, trunk: Trunk) -> None:
    dialog = trunk.dialog("1000")
    with Voice() as voice:
        to = media_of(await dialog.call(voice.sdp(formats="0 101")))
        assert await voice.hears_itself(to, 500)
        for version, (codec, payload_type) in enumerate([("G722", 9), ("PCMA", 8), ("G722", 9), ("PCMU", 0)], start=2):
            answer = await reinvite(dialog, voice.sdp(version=version, formats=f"{payload_type} 101"))
            voice.speak(codec, payload_type)
            assert await voice.hears_itself(media_of(answer), 500 + 100 * version)
        await dialog.bye()
    record = await cdr(stack, dialog.call_id)
    answers = ladder(record, "200 OK", sent=True)
    assert [note.split()[0] for note in answers if note] == ["PCMU", "G722", "PCMA", "G722", "PCMU"]
    assert record["errors"] == []


# --------------------------------------------------------------------------------------- SRTP, codecs


class Ear:
    """Keeps what a phone hears."""

    def __init__(self, leg: Leg) -> None:
        self._frames: list[Samples] = []
        leg.audio.listen(lambda frame: self._frames.append(frame.samples))

    def take(self) -> Samples:
        """What came since the last call."""
        frames, self._frames = self._frames, []
        return np.concatenate(frames) if frames else np.empty(0, np.int16)


async def hears_itself(caller: Caller, ear: Ear, hertz: float) -> bool:
    """Says a tone to an echo; whether it comes back, as well as codecs made for speech bring it."""
    ear.take()
    await caller.say(tone(hertz, 0.8).samples)
    await caller.pause(0.5)
    return heard_tone(ear.take(), hertz, purity=15)


PHONES = [("PCMU/8000", True), ("G722/16000", False), ("G722/16000", True), ("GSM/8000", False), ("speex/8000", False)]


def plain(note: str) -> bool:
    """Whether SDP of a ladder is RTP with what a connector speaks, alone or beside what it leaves aside."""
    return "SAVP" not in note and any(codec in note for codec in ("PCM", "G722", "OPUS"))


@needs_pjsua
@pytest.mark.parametrize(("codec", "srtp"), PHONES)
async def test_a_pjsua_phone(stack: Stack, codec: str, srtp: bool) -> None:
    async with pjsua.phone(codec, srtp=srtp) as phone:
        leg = await phone.dial(f"sip:1000@{stack.edge[0]}:{stack.edge[1]}")
        ear = Ear(leg)
        async with Caller(leg, CLOCK) as caller:
            assert await hears_itself(caller, ear, 700)
            await leg.hold()
            await caller.pause(0.3)
            await leg.resume()
            assert await hears_itself(caller, ear, 900)
    record = await cdr(stack, leg.info.call_id)
    assert (record["disposition"], record["errors"]) == ("answered", [])
    assert all(plain(note) for note in ladder(record, "INVITE", sent=False))
    spoken = {note.split()[0] for note in ladder(record, "200 OK", sent=True) if note}
    assert spoken <= ({"G722"} if codec.startswith("G722") else {"PCMU", "PCMA"}), "transcoded only where it must be"
    assert record["media"]["unknown_payload_type"] == 0


BARESIPS = {
    "G.722": ("G722/16000/1", "", ["g722.so"], 16000),
    "G.722 and SRTP": ("G722/16000/1", ";mediaenc=srtp-mand", ["g722.so", "srtp.so"], 16000),
    "PCMA and SRTP": ("PCMA/8000/1", ";mediaenc=srtp-mand", ["srtp.so"], 8000),
    "DTLS-SRTP": ("PCMU/8000/1", ";mediaenc=dtls_srtp", ["srtp.so", "dtls_srtp.so"], 8000),
    "GSM": ("GSM/8000/1", "", ["gsm.so"], 8000),
    "Opus": ("opus/48000/2", "", ["opus.so"], 48000),
}


@needs_baresip
@pytest.mark.parametrize("kind", BARESIPS)
async def test_a_baresip(stack: Stack, kind: str) -> None:
    codec, security, modules, rate = BARESIPS[kind]
    missing = [module for module in modules if not (baresip.MODULES / module).exists()]
    if missing:
        pytest.skip(f"baresip has no {', '.join(missing)}")
    account = f";audio_codecs={codec}{security}"
    async with baresip.running(account=account, modules=modules, rate=rate) as phone:
        await phone.command("dial", f"sip:1000@{stack.edge[0]}:{stack.edge[1]}")
        established = await phone.wait_for("CALL_ESTABLISHED")
        await asyncio.sleep(1.5)
        await phone.command("hold")
        await asyncio.sleep(0.5)
        await phone.command("resume")
        await asyncio.sleep(1.5)
        await phone.command("hangup")
        await phone.wait_for("CALL_CLOSED")
        heard = await asyncio.to_thread(read_wav, phone.heard())
    assert heard_tone(heard[:8000], 1000, purity=15)
    assert heard_tone(heard[-8000:], 1000, purity=15)
    record = await cdr(stack, established["id"])
    assert (record["disposition"], record["ended_by"], record["errors"]) == ("answered", "caller", [])
    spoken = {note.split()[0] for note in ladder(record, "200 OK", sent=True) if note}
    assert spoken == {"PCMA" if kind == "GSM" else codec.split("/")[0].upper()}, "transcoded only where it must be"
    offers = ladder(record, "INVITE", sent=False)
    assert len(offers) == 3
    assert all(plain(note) for note in offers)
    # While it takes up a re-INVITE, rtpengine may let a packet or two through as they came.
    assert record["media"]["unknown_payload_type"] <= 5


def read_wav(path: Path, rate: int = 8000) -> Samples:
    """Its first channel, at `rate`."""
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)[:: file.getnchannels()]
        return resample(Audio(samples, file.getframerate()), rate).samples


# --------------------------------------------------------------------------------------- what the agent does


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(stack: Stack) -> AsyncIterator[Answering]:
    """From here on a test says what the agent does; it echoes."""
    async with staffed(stack) as desk:
        yield desk


@pytest.fixture
def agent(desk: Answering) -> Answering:
    """Takes the next call, and no other."""
    desk.legs.clear()
    desk.events.clear()
    return desk


async def test_the_agent_holds_and_resumes(agent: Answering, trunk: Trunk) -> None:
    dialog = trunk.dialog("1000")
    with Voice() as voice:
        to = media_of(await dialog.call(voice.sdp()))
        assert await voice.hears_itself(to, 500)
        for version, (verb, wanted, answered) in enumerate(
            [
                (agent.legs[0].hold, "a=sendonly", "a=recvonly"),
                (agent.legs[0].resume, "a=sendrecv", "a=sendrecv"),
                (agent.legs[0].hold, "a=sendonly", "a=recvonly"),
                (agent.legs[0].resume, "a=sendrecv", "a=sendrecv"),
            ],
            start=2,
        ):
            asking = asyncio.create_task(verb())
            offer = await dialog.request("INVITE")
            assert wanted in offer.body.decode()
            dialog.reply(offer, 200, voice.sdp(version=version, formats="0 101", lines=f"{answered}\r\n"))
            await dialog.request("ACK")
            await asking
            if wanted == "a=sendrecv":
                assert await voice.hears_itself(media_of(offer), 500 + 100 * version)
        await dialog.bye()


async def test_a_refused_hold_leaves_the_call_as_it_was(agent: Answering, trunk: Trunk) -> None:
    dialog = trunk.dialog("1000")
    with Voice() as voice:
        to = media_of(await dialog.call(voice.sdp()))
        await agent.saw(Established)
        asking = asyncio.create_task(agent.legs[0].hold())
        dialog.reply(await dialog.request("INVITE"), 488)
        with pytest.raises(CallFailed, match="488"):
            await asking
        assert await voice.hears_itself(to, 700)
        await dialog.bye()


async def test_both_hold_at_once(agent: Answering, trunk: Trunk) -> None:
    """Both re-INVITEs get 491 (RFC 3261 section 14.2), and the agent asks again."""
    dialog = trunk.dialog("1000")
    with Voice() as voice:
        await dialog.call(voice.sdp())
        await agent.saw(Established)
        asking = asyncio.create_task(agent.legs[0].hold())
        offer = await dialog.request("INVITE")
        dialog.send("INVITE", voice.sdp(version=2, lines="a=sendonly\r\n"))
        dialog.acknowledge(await dialog.response(491))
        dialog.reply(offer, 491)
        dialog.reply(await dialog.request("INVITE"), 200, voice.sdp(version=3, lines="a=recvonly\r\n"))
        await asking
        await dialog.bye()


@needs_pjsua
@pytest.mark.parametrize(("codec", "srtp"), [("PCMU/8000", True), ("G722/16000", False), ("G722/16000", True)])
async def test_the_agents_hold_keeps_what_the_phone_needs(
    agent: Answering, stack: Stack, codec: str, srtp: bool
) -> None:
    """SRTP and codec: pjsua2 would refuse anything else."""
    async with pjsua.phone(codec, srtp=srtp) as phone:
        events: list[LegEvent] = []
        leg = await phone.dial(agent.uri)
        ear = Ear(leg)
        async with Caller(leg, CLOCK, events.append) as caller:
            assert await hears_itself(caller, ear, 700)
            await agent.legs[0].hold()
            await caller.pause(0.3)
            await agent.legs[0].resume()
            assert await hears_itself(caller, ear, 900)
            assert [event for event in events if isinstance(event, Held | Resumed)] == [Held(), Resumed()]


@needs_pjsua
async def test_what_the_phone_needs_outlives_a_restart_of_the_edge(agent: Answering, stack: Stack) -> None:
    """It is in the route that both sides have recorded: hold, resume and BYE work as before."""
    async with pjsua.phone("G722/16000", srtp=True) as phone:
        leg = await phone.dial(agent.uri)
        ear = Ear(leg)
        async with Caller(leg, CLOCK) as caller:
            assert await hears_itself(caller, ear, 700)
            stack.kill("edge")
            await caller.pause(0.5)
            await stack.service("edge").ready()
            await agent.legs[0].hold()
            await agent.legs[0].resume()
            assert await hears_itself(caller, ear, 900)
            await leg.hold()
            await leg.resume()
            assert await hears_itself(caller, ear, 1100)
    await agent.saw(Terminated)


WIDEBAND = {
    "G.722": ("G722/16000/1", ["g722.so"], 16_000),
    "Opus": ("opus/48000/2", ["opus.so"], 48_000),
}


@needs_baresip
@pytest.mark.parametrize("kind", WIDEBAND)
async def test_wideband_reaches_the_agent_and_comes_back(agent: Answering, kind: str) -> None:
    """6 kHz, which no codec of 8 kHz could carry, is in the agent's frames and in what the phone hears."""
    codec, modules, rate = WIDEBAND[kind]
    missing = [module for module in modules if not (baresip.MODULES / module).exists()]
    if missing:
        pytest.skip(f"baresip has no {', '.join(missing)}")
    speech = tone(6000, 30.0, rate)
    async with baresip.running(speech, account=f";audio_codecs={codec}", modules=modules, rate=rate) as phone:
        await phone.command("dial", agent.uri)
        await agent.saw(Established)
        leg = agent.legs[0]
        frames: list[Frame] = []

        def echo(frame: Frame) -> None:
            frames.append(frame)
            leg.audio.write(1, Audio(frame.samples, frame.rate))

        leg.audio.listen(echo)
        await asyncio.sleep(2.0)
        await phone.command("hangup")
        await phone.wait_for("CALL_CLOSED")
        heard = await asyncio.to_thread(read_wav, phone.heard(), 16_000)
    assert {frame.rate for frame in frames} == {16_000}
    received = np.concatenate([frame.samples for frame in frames])
    assert purity_db(received[-8000:], 6000, 16_000) > 15
    assert purity_db(heard[-16_000:-8000], 6000, 16_000) > 15


async def test_a_caller_who_speaks_g729_alone(agent: Answering, trunk: Trunk) -> None:
    """What the agent says comes in G.729; the same packets, sent back, are what the agent hears."""
    dialog = trunk.dialog("1000")
    with Voice() as voice:
        to = media_of(await dialog.call(voice.sdp(formats="18 101")))
        await agent.saw(Established)
        (leg,) = agent.legs
        ear = Ear(leg)
        leg.audio.write(2, tone(700, 1.0))
        await asyncio.sleep(1.3)
        packets = [packet for packet in voice.packets() if packet.payload_type == 18]
        assert heard_tone(g729(packets), 700, purity=5)
        ear.take()
        await voice.stream(packets, to, CLOCK)
        await asyncio.sleep(0.3)
        assert heard_tone(ear.take(), 700, purity=5)
        await dialog.bye()
    offer, answer = (step.note for step in leg.signalling if "127.0.0.1" in step.note)
    assert "PCMA" in offer
    assert answer.startswith("PCMA TELEPHONE-EVENT ")


def g729(packets: Sequence[RtpPacket]) -> Samples:
    """What they sound like, by FFmpeg's decoder."""
    av = pytest.importorskip("av", reason="no PyAV, whose FFmpeg decodes G.729")
    decoder = av.CodecContext.create("g729", "r")
    decoder.sample_rate, decoder.layout = 8000, "mono"
    frames = [
        frame.to_ndarray()
        for packet in packets
        for start in range(0, len(packet.payload), 10)
        for frame in decoder.decode(av.Packet(packet.payload[start : start + 10]))
    ]
    samples: Samples = np.concatenate(frames, axis=1)[0].astype(np.int16)
    return samples
