"""Two negotiations that talk to each other always agree, whatever they are put through."""

from __future__ import annotations

import ipaddress

from hypothesis import given, settings
from hypothesis import strategies as st

from connector.config.model import MediaSettings
from connector.leg.endpoint import capabilities
from connector.sip.offer_answer import Negotiation
from connector.sip.sdp import Direction, MediaDescription, SessionDescription, parse_sdp

ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
TOKENS = st.text("abcdefgXYZ0123456789-", min_size=1, max_size=8)
VALUES = st.text("abc XYZ:/=;019", min_size=1, max_size=20).map(str.strip).filter(bool)
ATTRIBUTES = st.lists(st.tuples(TOKENS, st.one_of(st.none(), VALUES)), max_size=4).map(tuple)
MEDIA = st.builds(
    MediaDescription,
    kind=st.sampled_from(["audio", "video", "image"]),
    port=st.integers(0, 65535),
    protocol=st.sampled_from(["RTP/AVP", "RTP/SAVP", "udptl"]),
    formats=st.lists(st.integers(0, 127).map(str), min_size=1, max_size=5).map(tuple),
    address=st.one_of(st.none(), ADDRESSES),
    attributes=ATTRIBUTES,
)
DESCRIPTIONS = st.builds(
    SessionDescription,
    session_id=st.integers(0, 2**62).map(str),
    version=st.integers(0, 2**62),
    origin_address=ADDRESSES,
    address=ADDRESSES,
    media=st.lists(MEDIA, max_size=3).map(tuple),
    attributes=ATTRIBUTES,
    username=TOKENS,
    name=VALUES,
)


@given(DESCRIPTIONS)
def test_every_description_is_read_back_as_it_was_written(description: SessionDescription) -> None:
    assert parse_sdp(str(description).encode()) == description


@settings(max_examples=200)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12))
def test_after_every_offer_both_sides_mean_the_same(steps: list[tuple[bool, bool]]) -> None:
    """Each step: who offers, and whether it holds the other from now on."""
    speaks = capabilities(MediaSettings())
    sides = [Negotiation("192.0.2.1", 4000, 1, speaks), Negotiation("192.0.2.2", 5000, 2, speaks)]
    versions = [0, 0]
    for first, hold in [(False, False), *steps]:
        offerer, answerer = sides[first], sides[not first]
        offerer.on_hold = hold
        answer = answerer.answer(parse_sdp(str(offerer.offer()).encode()))
        offerer.accept(parse_sdp(str(answer).encode()))
        ours, theirs = offerer.agreement, answerer.agreement
        assert ours is not None
        assert theirs is not None
        assert (ours.codec, ours.payload_type, ours.telephone_event) == (
            theirs.codec,
            theirs.payload_type,
            theirs.telephone_event,
        )
        assert ours.direction is theirs.direction.reversed
        assert ours.direction is Direction.of(not answerer.on_hold, not offerer.on_hold)
        for index, side in enumerate(sides):
            assert side.description is not None
            assert side.description.version >= versions[index]
            versions[index] = side.description.version


@given(ADDRESSES)
def test_an_address_is_written_with_its_ip_version(address: str) -> None:
    text = str(SessionDescription("1", 1, address, address=address))
    assert f"c=IN IP{ipaddress.ip_address(address).version} {address}\r\n" in text
