"""RFC 8866: session descriptions, as the RFC and as phones write them."""

from __future__ import annotations

import pytest

from connector.errors import BadRequest
from connector.sip.sdp import Direction, MediaDescription, RtpMap, SessionDescription, parse_sdp

HEAD = "v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"

EXAMPLE = (
    "v=0\r\no=jdoe 3724394400 3724394405 IN IP4 198.51.100.1\r\ns=Call to John Smith\r\ni=SDP Offer #1\r\n"
    "u=http://www.jdoe.example.com/home.html\r\ne=Jane Doe <jane@jdoe.example.com>\r\np=+1 617 555-6011\r\n"
    "c=IN IP4 198.51.100.1\r\nt=0 0\r\nm=audio 49170 RTP/AVP 0\r\nm=audio 49180 RTP/AVP 0\r\n"
    "m=video 51372 RTP/AVP 99\r\nc=IN IP6 2001:db8::2\r\na=rtpmap:99 h263-1998/90000\r\n"
)


def media(*lines: str) -> MediaDescription:
    return parse_sdp((HEAD + "".join(f"{line}\r\n" for line in lines)).encode()).media[0]


def test_the_example_of_section_5() -> None:
    session = parse_sdp(EXAMPLE.encode())
    assert (session.username, session.session_id, session.version) == ("jdoe", "3724394400", 3724394405)
    assert session.name == "Call to John Smith"
    assert [m.port for m in session.media] == [49170, 49180, 51372]
    assert session.address_of(session.media[0]) == "198.51.100.1"
    assert session.address_of(session.media[2]) == "2001:db8::2"
    assert session.media[2].payload_types == {99: RtpMap("H263-1998", 90000)}


def test_what_is_written_is_read_back() -> None:
    session = SessionDescription(
        "42",
        7,
        "2001:db8::1",
        address="2001:db8::1",
        media=(
            MediaDescription(
                "audio", 4000, "RTP/AVP", ("0", "101"), "192.0.2.9", (("ptime", "20"), ("sendonly", None))
            ),
        ),
    )
    text = str(session)
    assert text.endswith("\r\n")
    assert "c=IN IP6 2001:db8::1\r\n" in text
    assert parse_sdp(text.encode()) == session


def test_a_body_of_a_real_phone_with_ice_crypto_and_bandwidth() -> None:
    described = media(
        "m=audio 7078 RTP/AVP 96 0 8 101",
        "b=AS:64",
        "a=rtpmap:96 opus/48000/2",
        "a=fmtp:96 useinbandfec=1",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-16",
        "a=rtcp:7079 IN IP4 192.0.2.1",
        "a=candidate:1 1 UDP 2130706303 192.0.2.1 7078 typ host",
        "a=sendrecv",
        "a=ptime: 20",
    )
    assert described.payload_types == {
        96: RtpMap("OPUS", 48000, 2),
        0: RtpMap("PCMU", 8000),
        8: RtpMap("PCMA", 8000),
        101: RtpMap("TELEPHONE-EVENT", 8000),
    }
    assert described.attribute("ptime") == "20"


@pytest.mark.parametrize(
    "body",
    [
        HEAD.replace("\r\n", "\n") + "m=audio 4000 RTP/AVP 0\n",
        HEAD + "m=audio 4000 RTP/AVP 0",
        "v=0\r\no=- 1 2 IN IP4 h\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\n",
        HEAD + "\r\nm=audio 4000/2 RTP/AVP 0\r\n\r\n",
        HEAD + "k=clear:x\r\nz=0 0\r\nm=audio 4000  RTP/AVP  0 \r\ny=unknown\r\n",
        HEAD.replace("192.0.2.1\r\nt", "192.0.2.1/127\r\nt") + "m=audio 4000 RTP/AVP 0\r\n",
    ],
    ids=["LF", "no last line end", "no s=, no t=, late c=", "blank lines, port count", "unknown lines", "TTL"],
)
def test_what_phones_get_wrong_is_tolerated(body: str) -> None:
    session = parse_sdp(body.encode())
    assert session.media[0].port == 4000
    assert session.address_of(session.media[0]) == "192.0.2.1"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "hello",
        "v=1\r\n",
        "v=0\r\n",
        HEAD.replace("o=- 1 2", "o=- 1"),
        HEAD.replace("o=- 1 2", "o=- 1 two"),
        HEAD + "m=audio RTP/AVP 0\r\n",
        HEAD + "m=audio 70000 RTP/AVP 0\r\n",
        HEAD + "m=audio 4000\r\n",
        HEAD + "m=audio -4 RTP/AVP 0\r\n",
        HEAD.replace("c=IN IP4 192.0.2.1\r\n", "") + "m=audio 4000 RTP/AVP 0\r\n",
        HEAD.replace("c=IN IP4", "c=ATM NSAP") + "m=audio 4000 RTP/AVP 0\r\n",
        HEAD + "m=audio 4000 RTP/AVP 0\r\nrubbish\r\n",
        HEAD + "a=x\r\n" * 5000,
    ],
)
def test_what_leaves_the_media_undefined_is_a_bad_request(body: str) -> None:
    with pytest.raises(BadRequest):
        parse_sdp(body.encode())


@pytest.mark.parametrize("number", ["0", "127", "128", "255", "999", "abc"])
def test_formats_that_are_no_payload_types_are_left_out(number: str) -> None:
    types = media(f"m=audio 4000 RTP/AVP {number} 8", f"a=rtpmap:{number} X/8000").payload_types
    assert 8 in types
    assert all(0 <= n < 128 for n in types)


def test_the_direction_of_the_media_beats_that_of_the_session() -> None:
    body = HEAD + "a=inactive\r\nm=audio 1 RTP/AVP 0\r\nm=audio 2 RTP/AVP 0\r\na=sendonly\r\n"
    session = parse_sdp(body.encode())
    assert [session.direction_of(m) for m in session.media] == [Direction.INACTIVE, Direction.SENDONLY]


@pytest.mark.parametrize("direction", Direction)
def test_directions_are_their_two_halves(direction: Direction) -> None:
    assert Direction.of(direction.sends, direction.receives) is direction
    assert direction.reversed.reversed is direction
    assert direction.reversed.sends == direction.receives
