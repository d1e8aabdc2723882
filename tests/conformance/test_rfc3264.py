"""RFC 3264: offer/answer for one audio stream."""

from __future__ import annotations

import pytest

from connector.errors import BadRequest, NotAcceptableHere
from connector.sip.offer_answer import Negotiation
from connector.sip.sdp import Direction, SessionDescription, parse_sdp


def description(*media: str, address: str = "192.0.2.1", version: int = 1) -> SessionDescription:
    head = f"v=0\r\no=- 9 {version} IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n"
    return parse_sdp((head + "".join(f"{line}\r\n" for line in media)).encode())


def negotiation() -> Negotiation:
    return Negotiation("192.0.2.2", 40000, 77)


EVENTS = "a=rtpmap:101 telephone-event/8000"


@pytest.mark.parametrize(
    ("formats", "codec", "number"),
    [("0 8", "PCMU", 0), ("8 0", "PCMA", 8), ("18 9 8", "PCMA", 8), ("96 0", "PCMU", 0), ("3 4 0", "PCMU", 0)],
)
def test_the_first_codec_of_the_offer_that_we_speak_is_taken(formats: str, codec: str, number: int) -> None:
    session = negotiation()
    answer = session.answer(description(f"m=audio 4000 RTP/AVP {formats}", "a=rtpmap:96 opus/48000/2"))
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
        ["m=audio 4000 RTP/AVP 18 9"],
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


def test_our_offer_has_both_codecs_and_telephone_events() -> None:
    offer = negotiation().offer()
    assert offer.media[0].formats == ("0", "8", "101")
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
