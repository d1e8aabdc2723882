"""Offer/answer for one G.711 audio stream with telephone-events (RFC 3264, RFC 3551, RFC 4733).

`Negotiation` holds what a session has said and agreed so far. An offer that cannot be met raises
and leaves it as it was, so that the call goes on as before (RFC 3261 section 14.1).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace

from connector.errors import BadRequest, NotAcceptableHere
from connector.sip.sdp import (
    Direction,
    MediaDescription,
    RtpMap,
    SessionDescription,
    is_unspecified,
)

CODECS = {"PCMU": 0, "PCMA": 8}
"""What we speak, in the order that we offer it, with the payload types of RFC 3551."""

_SPOKEN = frozenset(RtpMap(codec, 8000) for codec in CODECS)
_EVENTS = RtpMap("TELEPHONE-EVENT", 8000)

PTIME = 20
"""Milliseconds of a packet (RFC 3551 section 4.2)."""

EVENT_PAYLOAD_TYPE = 101
"""Dynamic type that we offer telephone-events with, as everybody does."""

PROTOCOLS = ("RTP/AVP", "RTP/AVPF")
"""Profiles that we answer; SRTP (RTP/SAVP) is refused (488)."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both sides settled on.

    `address`, `port`: where the peer receives. `codec`: its RTP name; `payload_type`: its number.
    `telephone_event`: payload type of DTMF, or None. `direction`: ours. `held`: whether the peer put
    us on hold (RFC 3264 section 8.4).
    """

    address: str
    port: int
    codec: str
    payload_type: int
    telephone_event: int | None
    direction: Direction
    held: bool


@dataclass(frozen=True, slots=True)
class _Slot:
    """One m= line of the session; lines keep their places for its whole life (RFC 3264 section 8)."""

    kind: str
    protocol: str
    formats: tuple[str, ...]


class Negotiation:
    """One session's descriptions. `address` (numeric), `port`: where we receive. `session_id`: a number, ours."""

    def __init__(self, address: str, port: int, session_id: int) -> None:
        self._address = address
        self._port = port
        self._session_id = str(session_id)
        self._said: SessionDescription | None = None
        self._others: tuple[tuple[int, _Slot], ...] = ()
        """Refused m= lines of the session and their places."""
        self._agreement: Agreement | None = None
        self.on_hold = False
        """Whether we hold the peer: then we send and want nothing back (RFC 3264 section 8.4)."""

    @property
    def agreement(self) -> Agreement | None:
        """What is in force, None before the first offer/answer is through."""
        return self._agreement

    @property
    def description(self) -> SessionDescription | None:
        """What we said last."""
        return self._said

    # ---------------------------------------------------------------- theirs first

    def answer(self, offer: SessionDescription) -> SessionDescription:
        """Our answer to `offer`, now in force. Raises `NotAcceptableHere` (no common codec), `BadRequest`."""
        place, media, agreement = choose(offer, self._address)
        agreement = self._directed(agreement, offer.direction_of(media))
        others = tuple(
            (index, _Slot(m.kind, m.protocol, m.formats or ("0",)))
            for index, m in enumerate(offer.media)
            if index != place
        )
        formats = {agreement.payload_type: RtpMap(agreement.codec, 8000)}
        if agreement.telephone_event is not None:
            formats[agreement.telephone_event] = _EVENTS
        answer = self._say(formats, media.protocol, agreement.direction, others)
        self._agreement = agreement
        return answer

    # ---------------------------------------------------------------- ours first

    def offer(self) -> SessionDescription:
        """What we want now: both codecs at first, later the one in use; sendonly while we hold."""
        formats: dict[int, RtpMap] = {}
        current = self._agreement
        if current is not None:
            formats[current.payload_type] = RtpMap(current.codec, 8000)
        for codec, number in CODECS.items():
            formats.setdefault(number, RtpMap(codec, 8000))
        event = current.telephone_event if current is not None else None
        if event is None:
            event = next(n for n in (EVENT_PAYLOAD_TYPE, *range(96, 128)) if n not in formats)
        formats[event] = _EVENTS
        direction = Direction.SENDONLY if self.on_hold else Direction.SENDRECV
        return self._say(formats, "RTP/AVP", direction, self._others)

    def accept(self, answer: SessionDescription) -> Agreement:
        """Takes the peer's answer to our last offer. Raises `NotAcceptableHere`, `BadRequest`."""
        _, media, agreement = choose(answer, self._address)
        self._agreement = self._directed(agreement, answer.direction_of(media))
        return self._agreement

    # ---------------------------------------------------------------- inside

    def _directed(self, agreement: Agreement, theirs: Direction) -> Agreement:
        """Fills in our direction, given `theirs` (RFC 3264 sections 6.1 and 8.4)."""
        if is_unspecified(agreement.address):
            theirs = Direction.of(theirs.sends, False)
        wanted = Direction.SENDONLY if self.on_hold else Direction.SENDRECV
        ours = Direction.of(wanted.sends and theirs.receives, wanted.receives and theirs.sends)
        # To our own sendonly they answer recvonly or inactive; they hold us where they refuse to listen.
        return replace(agreement, direction=ours, held=not theirs.receives)

    def _say(
        self,
        formats: dict[int, RtpMap],
        protocol: str,
        direction: Direction,
        others: tuple[tuple[int, _Slot], ...],
    ) -> SessionDescription:
        attributes: list[tuple[str, str | None]] = [
            ("rtpmap", f"{number} {_spelled(meaning.encoding)}/{meaning.rate}") for number, meaning in formats.items()
        ]
        attributes += [("fmtp", f"{n} 0-15") for n, m in formats.items() if m == _EVENTS]
        attributes += [("ptime", str(PTIME)), (direction.value, None)]
        media = [MediaDescription("audio", self._port, protocol, tuple(map(str, formats)), None, tuple(attributes))]
        for place, slot in others:
            media.insert(place, MediaDescription(slot.kind, 0, slot.protocol, slot.formats))
        said = SessionDescription(
            self._session_id, 1, self._address, address=self._address, media=tuple(media), name="voxtrunk"
        )
        if self._said is not None:
            said = replace(said, version=self._said.version)
            if said != self._said:
                said = replace(said, version=self._said.version + 1)  # RFC 3264 section 8
        self._said, self._others = said, others
        return said


def choose(description: SessionDescription, ours: str) -> tuple[int, MediaDescription, Agreement]:
    """The first audio stream that we can serve at our address: its place, itself, and what it would come to.

    Raises `NotAcceptableHere` where there is none, `BadRequest` where its address is none.
    """
    problem = "there is no audio"
    for place, media in enumerate(description.media):
        if media.kind != "audio" or media.port == 0:
            continue
        if media.protocol.upper() not in PROTOCOLS:
            problem = f"the audio is {media.protocol}, only {' and '.join(PROTOCOLS)} are spoken"
            continue
        types = media.payload_types
        number = next((n for n, m in types.items() if m in _SPOKEN), None)
        if number is None:
            problem = f"none of {', '.join(CODECS)} is offered"
            continue
        codec = types[number].encoding
        event = next((n for n, m in types.items() if m == _EVENTS), None)
        address = description.address_of(media) or ""
        _check_address(address, ours)
        return place, media, Agreement(address, media.port, codec, number, event, Direction.SENDRECV, False)
    raise NotAcceptableHere(problem)


def _spelled(encoding: str) -> str:
    return encoding.lower() if encoding == "TELEPHONE-EVENT" else encoding


def _check_address(address: str, ours: str) -> None:
    """Media goes to numeric unicast addresses alone: nobody can make us look up names or flood a group.

    And to those of our own IP version, unless it is 0.0.0.0 or ::, which name none.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise NotAcceptableHere("the media address is not numeric") from None
    if parsed.is_multicast or (parsed.version == 4 and int(parsed) == 2**32 - 1):
        raise BadRequest("SDP: the media address is not unicast")
    version = ipaddress.ip_address(ours).version
    if parsed.version != version and not parsed.is_unspecified:
        raise NotAcceptableHere(f"the media address is not one of IPv{version}")
