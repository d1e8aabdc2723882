"""RTP and RTCP on one port in SDP (RFC 5761 section 5.1.1), and RTCP elsewhere (RFC 3605)."""

from __future__ import annotations

import pytest

from connector.codec.registry import spoken
from connector.sip.offer_answer import Agreement, Capabilities, Negotiation
from connector.sip.sdp import SessionDescription, parse_sdp


def description(*attributes: str) -> SessionDescription:
    lines = ("v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-", "c=IN IP4 192.0.2.1", "t=0 0", "m=audio 4000 RTP/AVP 0")
    return parse_sdp("\r\n".join((*lines, *(f"a={one}" for one in attributes), "")).encode())


@pytest.fixture
def session() -> Negotiation:
    return Negotiation("192.0.2.2", 40_000, 1, Capabilities(spoken(("PCMU",))))


def agreed(session: Negotiation) -> Agreement:
    assert session.agreement is not None
    return session.agreement


def muxes(said: SessionDescription) -> bool:
    return said.media[0].rtcp_mux


def test_one_port_is_accepted_where_it_is_offered(session: Negotiation) -> None:
    assert muxes(session.answer(description("rtcp-mux", "rtcp:4000")))
    assert agreed(session).rtcp_mux
    assert agreed(session).rtcp_port == 4000


def test_one_port_is_not_asked_for_where_it_is_not_offered(session: Negotiation) -> None:
    assert not muxes(session.answer(description()))
    assert not agreed(session).rtcp_mux
    assert agreed(session).rtcp_port == 4001


@pytest.mark.parametrize(
    ("value", "port"),
    [
        ("53020", 53_020),
        ("53020 IN IP4 126.16.64.4", 53_020),
        ("53020 IN IP6 2001:DB8::211", 53_020),
        ("0", 4001),
        ("65536", 4001),
        ("4002x", 4001),
        ("", 4001),
    ],
)
def test_rtcp_has_the_port_that_the_peer_names(session: Negotiation, value: str, port: int) -> None:
    """Its address is not used: nobody can have our reports sent elsewhere than our audio."""
    session.answer(description(f"rtcp:{value}"))
    assert agreed(session).rtcp_port == port


def test_our_first_offer_has_two_ports_and_a_later_one_what_was_agreed(session: Negotiation) -> None:
    assert not muxes(session.offer())
    session.answer(description("rtcp-mux"))
    assert muxes(session.offer())
    assert not session.accept(description()).rtcp_mux
    assert not muxes(session.offer())


def test_an_answer_cannot_bring_in_what_was_not_offered(session: Negotiation) -> None:
    session.offer()
    assert session.accept(description("rtcp-mux")).rtcp_port == 4001


def test_a_later_offer_may_end_it(session: Negotiation) -> None:
    session.answer(description("rtcp-mux"))
    assert not muxes(session.answer(description()))
    assert agreed(session).rtcp_port == 4001
