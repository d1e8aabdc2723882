"""RFC 3264: offer/answer for one audio stream."""

from __future__ import annotations

import pytest

from connector.codec.registry import CODECS
from connector.errors import BadRequest, NotAcceptableHere
from connector.sip.offer_answer import Capabilities, Negotiation
from connector.sip.sdp import Direction, RtpMap, SessionDescription, parse_sdp


def description(*media: str, address: str = "192.0.2.1", version: int = 1) -> SessionDescription:
    head = f"v=0\r\no=- 9 {version} IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n"
    return parse_sdp((head + "".join(f"{line}\r\n" for line in media)).encode())


def negotiation(*codecs: str, ranked: bool = False) -> Negotiation:
    """One that speaks `codecs`, or all: those of a machine that has libopus."""
    formats = tuple(CODECS[name] for name in codecs or CODECS)
    return Negotiation("192.0.2.2", 40000, 77, Capabilities(formats, ranked))


EVENTS = "a=rtpmap:101 telephone-event/8000"


@pytest.mark.parametrize(
    ("formats", "codec", "number"),
    [
        ("0 8", "PCMU", 0),
        ("8 0", "PCMA", 8),
        ("18 8", "PCMA", 8),
        ("3 4 0", "PCMU", 0),
        ("97 0", "PCMU", 0),
        ("18 9 8", "G722", 9),
        ("0 8 9", "G722", 9),
        ("9 96 0", "G722", 9),
        ("0 96 9", "opus", 96),
    ],
)
def test_the_first_wideband_codec_of_the_offer_is_taken_or_the_first(formats: str, codec: str, number: int) -> None:
    session = negotiation()
    maps = "a=rtpmap:96 opus/48000/2", "a=rtpmap:97 G722/16000"
    answer = session.answer(description(f"m=audio 4000 RTP/AVP {formats}", *maps))
    assert session.agreement is not None
    assert (session.agreement.codec, session.agreement.payload_type) == (codec, number)
    assert (session.agreement.address, session.agreement.port) == ("192.0.2.1", 4000)
    assert answer.media[0].formats == (str(number),)
    assert (answer.address, answer.media[0].port) == ("192.0.2.2", 40000)
    assert answer.media[0].attribute("ptime") == "20"


def test_a_dynamic_payload_type_for_g711_is_kept() -> None:
    session = negotiation()
    answer = session.answer(description("m=audio 4000 RTP/AVP 97", "a=rtpmap:97 pcma/8000"))
    assert answer.media[0].formats == ("97",)
    assert answer.media[0].attribute("rtpmap") == "97 PCMA/8000"


@pytest.mark.parametrize("number", [101, 96, 127])
def test_telephone_events_keep_the_number_of_the_offer(number: int) -> None:
    session = negotiation()
    answer = session.answer(
        description(
            f"m=audio 4000 RTP/AVP 0 100 {number}",
            f"a=rtpmap:{number} telephone-event/8000",
            "a=rtpmap:100 telephone-event/48000",
        )
    )
    assert session.agreement is not None
    assert session.agreement.telephone_event == number
    assert answer.media[0].formats == ("0", str(number))
    assert answer.media[0].attribute("fmtp") == f"{number} 0-15"


def test_without_telephone_events_in_the_offer_there_are_none_in_the_answer() -> None:
    session = negotiation()
    assert session.answer(description("m=audio 4000 RTP/AVP 0")).media[0].formats == ("0",)
    assert session.agreement is not None
    assert session.agreement.telephone_event is None


@pytest.mark.parametrize(
    ("theirs", "ours", "held"),
    [
        ("sendrecv", "sendrecv", False),
        ("sendonly", "recvonly", True),
        ("recvonly", "sendonly", False),
        ("inactive", "inactive", True),
    ],
)
def test_directions_are_answered_as_section_6_1_says(theirs: str, ours: str, held: bool) -> None:
    session = negotiation()
    answer = session.answer(description("m=audio 4000 RTP/AVP 0", f"a={theirs}"))
    assert answer.media[0].direction == Direction(ours)
    assert session.agreement is not None
    assert (session.agreement.direction, session.agreement.held) == (Direction(ours), held)


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_the_old_hold_with_an_unspecified_address(address: str) -> None:
    """RFC 3264 section 8.4: 0.0.0.0 says that nothing is to be sent."""
    session = negotiation()
    session.answer(description("m=audio 4000 RTP/AVP 0", address=address))
    assert session.agreement is not None
    assert session.agreement.held
    assert not session.agreement.direction.sends


@pytest.mark.parametrize(
    "media",
    [
        ["m=audio 4000 RTP/AVP 18 3"],
        ["m=audio 4000 RTP/AVP 96", "a=rtpmap:96 opus/16000/2"],
        ["m=audio 4000 RTP/AVP 96", "a=rtpmap:96 PCMU/16000"],
        ["m=audio 0 RTP/AVP 0"],
        ["m=video 4000 RTP/AVP 0"],
        ["m=audio 4000 RTP/SAVP 0"],
        ["m=audio 4000 UDP/TLS/RTP/SAVPF 0"],
        ["m=audio 4000 RTP/AVP 0", "c=IN IP4 phone.local"],
        ["m=audio 4000 RTP/AVP 0", "c=IN IP6 2001:db8::1"],
        [],
    ],
)
def test_an_offer_without_anything_in_common_is_488(media: list[str]) -> None:
    session = negotiation()
    with pytest.raises(NotAcceptableHere):
        session.answer(description(*media))
    assert session.agreement is None


@pytest.mark.parametrize("address", ["224.2.1.1", "255.255.255.255"])
def test_nobody_can_make_us_flood_a_group(address: str) -> None:
    with pytest.raises(BadRequest):
        negotiation().answer(description("m=audio 4000 RTP/AVP 0", address=address))


def test_every_other_stream_is_answered_in_place_with_port_0() -> None:
    session = negotiation()
    answer = session.answer(
        description(
            "m=video 5000 RTP/AVP 99", "m=audio 4000 RTP/SAVP 0", "m=audio 4002 RTP/AVPF 8", "m=image 6000 udptl t38"
        )
    )
    assert [(m.kind, m.port, m.protocol) for m in answer.media] == [
        ("video", 0, "RTP/AVP"),
        ("audio", 0, "RTP/SAVP"),
        ("audio", 40000, "RTP/AVPF"),
        ("image", 0, "udptl"),
    ]
    later = session.offer()
    assert [(m.kind, m.port) for m in later.media] == [("video", 0), ("audio", 0), ("audio", 40000), ("image", 0)]


def test_an_offer_that_is_refused_leaves_everything_as_it_was() -> None:
    session = negotiation()
    session.answer(description("m=audio 4000 RTP/AVP 0"))
    before = (session.agreement, session.description)
    with pytest.raises(NotAcceptableHere):
        session.answer(description("m=audio 4000 RTP/AVP 18", version=2))
    assert (session.agreement, session.description) == before


def test_the_version_counts_changes_and_nothing_else() -> None:
    """RFC 3264 section 8."""
    session = negotiation()
    offer = description("m=audio 4000 RTP/AVP 0", EVENTS)
    versions = [session.answer(offer).version, session.answer(offer).version]
    held = description("m=audio 4000 RTP/AVP 0", "a=sendonly")
    versions += [session.answer(held).version, session.answer(offer).version]
    assert versions == [1, 1, 2, 3]
    assert session.answer(offer).session_id == "77"


def test_a_move_of_the_media_and_a_change_of_codec_are_followed() -> None:
    session = negotiation()
    session.answer(description("m=audio 4000 RTP/AVP 0"))
    session.answer(description("m=audio 5000 RTP/AVP 8", address="192.0.2.5", version=2))
    assert session.agreement is not None
    assert (session.agreement.address, session.agreement.port, session.agreement.codec) == ("192.0.2.5", 5000, "PCMA")


# ---------------------------------------------------------------- our offers


def test_our_offer_has_every_codec_and_telephone_events_for_their_clocks() -> None:
    offer = negotiation().offer()
    assert offer.media[0].formats == ("96", "9", "0", "8", "101", "97")
    assert offer.media[0].payload_types == {
        96: RtpMap("OPUS", 48000, 2),
        9: RtpMap("G722", 8000),
        0: RtpMap("PCMU", 8000),
        8: RtpMap("PCMA", 8000),
        101: RtpMap("TELEPHONE-EVENT", 8000),
        97: RtpMap("TELEPHONE-EVENT", 48000),
    }
    assert "a=rtpmap:96 opus/48000/2\r\n" in str(offer)
    assert offer.media[0].parameters(96) == "maxplaybackrate=16000;sprop-maxcapturerate=16000;useinbandfec=1"
    assert offer.media[0].parameters(97) == "0-15"
    assert offer.media[0].direction is Direction.SENDRECV
    assert str(offer).count("c=IN IP4 192.0.2.2") == 1


def test_an_answer_settles_it() -> None:
    session = negotiation()
    session.offer()
    agreement = session.accept(description("m=audio 4000 RTP/AVP 8 101", EVENTS))
    assert (agreement.codec, agreement.telephone_event, agreement.direction) == ("PCMA", 101, Direction.SENDRECV)


def test_an_answer_that_refuses_the_audio_is_not_acceptable() -> None:
    session = negotiation()
    session.offer()
    with pytest.raises(NotAcceptableHere):
        session.accept(description("m=audio 0 RTP/AVP 0"))


def test_hold_and_resume_from_our_side() -> None:
    session = negotiation()
    session.offer()
    session.accept(description("m=audio 4000 RTP/AVP 8"))
    session.on_hold = True
    offer = session.offer()
    assert offer.media[0].direction is Direction.SENDONLY
    assert offer.media[0].formats[0] == "8"
    assert offer.version == 2
    agreement = session.accept(description("m=audio 4000 RTP/AVP 8", "a=recvonly"))
    assert (agreement.direction, agreement.held) == (Direction.SENDONLY, False)
    assert session.answer(description("m=audio 4000 RTP/AVP 8")).media[0].direction is Direction.SENDONLY
    assert session.answer(description("m=audio 4000 RTP/AVP 8", "a=sendonly")).media[0].direction is Direction.INACTIVE
    session.on_hold = False
    assert session.offer().media[0].direction is Direction.SENDRECV


# ---------------------------------------------------------------- wideband, clocks, numbers

OPUS = "a=rtpmap:107 opus/48000/2"
EVENTS_48 = "a=rtpmap:98 telephone-event/48000"


def test_the_configured_order_counts_where_there_is_one() -> None:
    session = negotiation("PCMA", "opus", "PCMU", ranked=True)
    session.answer(description("m=audio 4000 RTP/AVP 107 9 0 8", OPUS))
    assert session.agreement is not None
    assert session.agreement.codec == "PCMA"
    assert session.offer().media[0].formats == ("8", "107", "0", "101", "96")


def test_a_codec_that_the_configuration_leaves_out_is_not_spoken() -> None:
    session = negotiation("PCMU", "PCMA")
    assert session.offer().media[0].formats == ("0", "8", "101")
    with pytest.raises(NotAcceptableHere, match="none of PCMU, PCMA is offered"):
        session.answer(description("m=audio 4000 RTP/AVP 9 107", OPUS))


@pytest.mark.parametrize(
    ("formats", "event", "rate"),
    [("107 98 101", 98, 48000), ("107 101 98", 98, 48000), ("107 101", 101, 8000), ("0 98 101", 101, 8000)],
)
def test_telephone_events_have_the_clock_of_the_codec_where_they_can(formats: str, event: int, rate: int) -> None:
    """RFC 4733 section 2.1; phones in use have events of 8 kHz alone beside Opus."""
    session = negotiation()
    answer = session.answer(description(f"m=audio 4000 RTP/AVP {formats}", OPUS, EVENTS_48, EVENTS))
    assert session.agreement is not None
    assert (session.agreement.telephone_event, session.agreement.event_rate) == (event, rate)
    assert answer.media[0].formats == (formats.split()[0], str(event))
    assert answer.media[0].payload_types[event] == RtpMap("TELEPHONE-EVENT", rate)


def test_what_the_peer_wants_of_opus_is_kept() -> None:
    """RFC 7587 section 6.1."""
    session = negotiation()
    fmtp = "a=fmtp:107 maxplaybackrate=8000; useinbandfec=1"
    answer = session.answer(description("m=audio 4000 RTP/AVP 107", OPUS, fmtp))
    assert session.agreement is not None
    assert session.agreement.parameters == "maxplaybackrate=8000; useinbandfec=1"
    assert answer.media[0].attribute("rtpmap") == "107 opus/48000/2"


@pytest.mark.parametrize(("formats", "taken"), [("0 13", True), ("9 13", True), ("107 13", False), ("0", False)])
def test_comfort_noise_is_accepted_beside_a_codec_of_its_clock(formats: str, taken: bool) -> None:
    """RFC 3389 section 4."""
    answer = negotiation().answer(description(f"m=audio 4000 RTP/AVP {formats}", OPUS))
    assert ("13" in answer.media[0].formats) == taken


def test_payload_types_may_differ_by_direction() -> None:
    """Section 5.1: each end says what it wants to receive. Section 6.1: the answerer's numbers are for us to send."""
    session = negotiation()
    session.offer()
    agreement = session.accept(
        description("m=audio 4000 RTP/AVP 107 98 0", OPUS, EVENTS_48, "a=fmtp:107 useinbandfec=1")
    )
    assert (agreement.codec, agreement.payload_type, agreement.telephone_event) == ("opus", 107, 98)
    assert (agreement.receives, agreement.receives_events) == ({96: "opus", 0: "PCMU"}, 97)


def test_the_answerers_first_codec_is_what_we_send_even_if_another_is_wider() -> None:
    session = negotiation()
    session.offer()
    assert session.accept(description("m=audio 4000 RTP/AVP 8 9")).codec == "PCMA"


def test_a_payload_type_means_the_same_for_the_whole_session() -> None:
    """Section 8.3.2."""
    session = negotiation()
    session.answer(
        description(
            "m=audio 4000 RTP/AVP 0 96 101 97",
            "a=rtpmap:96 speex/16000",
            "a=rtpmap:101 G726-32/8000",
            "a=rtpmap:97 telephone-event/8000",
        )
    )
    offer = session.offer()
    types = offer.media[0].payload_types
    assert types[97] == RtpMap("TELEPHONE-EVENT", 8000)
    assert not {96, 101} & set(types)
    assert {meaning.encoding for meaning in types.values()} == {"PCMU", "OPUS", "G722", "PCMA", "TELEPHONE-EVENT"}
    assert session.offer() == offer


def test_a_change_from_narrowband_to_wideband_in_mid_call() -> None:
    session = negotiation()
    session.answer(description("m=audio 4000 RTP/AVP 0"))
    answer = session.answer(description("m=audio 4000 RTP/AVP 9", version=2))
    assert session.agreement is not None
    assert (session.agreement.codec, session.agreement.receives) == ("G722", {9: "G722"})
    assert answer.version == 2


def test_offers_that_use_up_every_payload_type_still_leave_us_an_offer() -> None:
    session = negotiation()
    lines = [f"a=rtpmap:{number} X-{number}/8000" for number in range(96, 128)]
    session.answer(description(f"m=audio 4000 RTP/AVP 0 {' '.join(map(str, range(96, 128)))}", *lines))
    assert "0" in session.offer().media[0].formats
