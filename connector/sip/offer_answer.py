"""Offer/answer for one audio stream with telephone-events (RFC 3264, RFC 3551, RFC 4733).

`Negotiation` holds what a session has said and agreed so far. An offer that cannot be met raises
and leaves it as it was, so that the call goes on as before (RFC 3261 section 14.1).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from connector.errors import BadRequest, NotAcceptableHere
from connector.sip.sdp import (
    Direction,
    MediaDescription,
    RtpMap,
    SessionDescription,
    is_unspecified,
)

EVENTS = "TELEPHONE-EVENT"
COMFORT_NOISE = RtpMap("CN", 8000)
"""Silence in words instead of packets (RFC 3389): taken, never asked for. What is sent is heard as it was."""
COMFORT_NOISE_TYPE = 13

PTIME = 20
"""Milliseconds of a packet (RFC 3551 section 4.2). It is what we send, whatever `ptime` the peer would like better."""

EVENT_PAYLOAD_TYPE = 101
"""Dynamic type that we offer telephone-events with, as everybody does."""
DYNAMIC_TYPES = range(96, 128)

PROTOCOLS = ("RTP/AVP", "RTP/AVPF")
"""Profiles that we answer; SRTP (RTP/SAVP) is refused (488)."""


class AudioFormat(Protocol):
    """A codec as SDP describes it."""

    @property
    def name(self) -> str:
        """Of `a=rtpmap`, as it is usually spelled."""

    @property
    def clock_rate(self) -> int:
        """Of `a=rtpmap`, Hz."""

    @property
    def channels(self) -> int:
        """Of `a=rtpmap`."""

    @property
    def payload_type(self) -> int:
        """Its static number, or a dynamic one that it has where nothing else has it."""

    @property
    def parameters(self) -> str:
        """Our `a=fmtp`, "" for none."""

    @property
    def wideband(self) -> bool:
        """Whether it carries more than telephony's 4 kHz."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What we speak. `formats`: in the order that we offer them.

    `ranked`: answers choose in that order, too. Otherwise they keep the offerer's order (RFC 3264 section 6.1), but for
    wideband formats, which come before all others: a recogniser understands more.
    """

    formats: tuple[AudioFormat, ...]
    ranked: bool = False

    def chosen(self, types: Mapping[int, RtpMap]) -> tuple[int, AudioFormat] | None:
        """What we take of an offer's `types`, with its number; None for nothing."""
        common = self.common(types)
        if self.ranked:
            return min(common, key=lambda found: self.formats.index(found[1]), default=None)
        return next((found for found in common if found[1].wideband), common[0] if common else None)

    def common(self, types: Mapping[int, RtpMap]) -> list[tuple[int, AudioFormat]]:
        """Those of `types` that we speak, in their order."""
        return [(number, f) for number, meaning in types.items() for f in self.formats if _map_of(f) == meaning]


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both sides settled on.

    `address`, `port`: where the peer receives. `codec`: its RTP name; `payload_type`: the number that we send it with;
    `parameters`: the peer's `a=fmtp` of it. `telephone_event`: payload type that we send DTMF with, or None; its
    durations count `event_rate` Hz. `direction`: ours. `held`: whether the peer put us on hold (RFC 3264 section 8.4).
    `receives`: what the peer may send: codecs by payload types, which need not be those that we send with (section
    5.1); `receives_events`: payload type of its DTMF, or None. `rtcp_port`: where the peer receives RTCP at `address`:
    `port` itself where both sides have RTP and RTCP on one port (RFC 5761).
    """

    address: str
    port: int
    codec: str
    payload_type: int
    telephone_event: int | None
    direction: Direction
    held: bool
    parameters: str = ""
    event_rate: int = 8000
    receives: Mapping[int, str] = field(default_factory=dict)
    receives_events: int | None = None
    rtcp_port: int | None = None

    @property
    def rtcp_mux(self) -> bool:
        return self.rtcp_port == self.port


@dataclass(frozen=True, slots=True)
class _Slot:
    """One m= line of the session; lines keep their places for its whole life (RFC 3264 section 8)."""

    kind: str
    protocol: str
    formats: tuple[str, ...]


class Negotiation:
    """One session's descriptions. `address` (numeric), `port`: where we receive. `session_id`: a number, ours."""

    def __init__(self, address: str, port: int, session_id: int, capabilities: Capabilities) -> None:
        self._capabilities = capabilities
        self._address = address
        self._port = port
        self._session_id = str(session_id)
        self._said: SessionDescription | None = None
        self._others: tuple[tuple[int, _Slot], ...] = ()
        """Refused m= lines of the session and their places."""
        self._agreement: Agreement | None = None
        self._meanings: dict[int, RtpMap] = {}
        """Of every payload type that the session has used: none may change (RFC 3264 section 8.3.2)."""
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
        place, media, agreement = choose(offer, self._address, self._capabilities)
        agreement = self._directed(agreement, offer.direction_of(media))
        others = tuple(
            (index, _Slot(m.kind, m.protocol, m.formats or ("0",)))
            for index, m in enumerate(offer.media)
            if index != place
        )
        types = media.payload_types
        numbers = [agreement.payload_type]
        if agreement.telephone_event is not None:
            numbers.append(agreement.telephone_event)
        if types.get(COMFORT_NOISE_TYPE) == COMFORT_NOISE and types[agreement.payload_type].rate == COMFORT_NOISE.rate:
            numbers.append(COMFORT_NOISE_TYPE)
        answer = self._say(
            {n: types[n] for n in numbers}, media.protocol, agreement.direction, others, agreement.rtcp_mux
        )
        self._meanings.update(types)
        self._agreement = agreement
        return answer

    # ---------------------------------------------------------------- ours first

    def offer(self) -> SessionDescription:
        """What we want now: every codec, the one in use first; sendonly while we hold."""
        current = self._agreement
        formats = sorted(self._capabilities.formats, key=lambda f: current is None or f.name != current.codec)
        types = {self._number(_map_of(f), f.payload_type): _map_of(f) for f in formats}
        for rate in sorted({f.clock_rate for f in formats}):
            types[self._number(RtpMap(EVENTS, rate), EVENT_PAYLOAD_TYPE)] = RtpMap(EVENTS, rate)
        direction = Direction.SENDONLY if self.on_hold else Direction.SENDRECV
        return self._say(types, "RTP/AVP", direction, self._others, current is not None and current.rtcp_mux)

    def accept(self, answer: SessionDescription) -> Agreement:
        """Takes the peer's answer to our last offer. Raises `NotAcceptableHere`, `BadRequest`."""
        # Theirs is the choice now: what they put first.
        _, media, agreement = choose(answer, self._address, self._capabilities, theirs=True)
        if self._said is not None:
            agreement = _as_we_said(agreement, media, self._said, self._capabilities)
        self._meanings.update(media.payload_types)
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
        types: Mapping[int, RtpMap],
        protocol: str,
        direction: Direction,
        others: tuple[tuple[int, _Slot], ...],
        rtcp_mux: bool,
    ) -> SessionDescription:
        attributes: list[tuple[str, str | None]] = []
        for number, meaning in types.items():
            attributes.append(("rtpmap", f"{number} {self._spelled(meaning)}"))
            if parameters := self._parameters(meaning):
                attributes.append(("fmtp", f"{number} {parameters}"))
        attributes += [("ptime", str(PTIME)), (direction.value, None)]
        if rtcp_mux:
            attributes.append(("rtcp-mux", None))
        media = [MediaDescription("audio", self._port, protocol, tuple(map(str, types)), None, tuple(attributes))]
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

    def _number(self, meaning: RtpMap, preferred: int) -> int:
        """The payload type of `meaning`, which it keeps for the whole session."""
        known = next((n for n, m in self._meanings.items() if m == meaning), None)
        if known is None:
            known = next((n for n in (preferred, *DYNAMIC_TYPES) if n not in self._meanings), preferred)
            self._meanings[known] = meaning
        return known

    def _format(self, meaning: RtpMap) -> AudioFormat | None:
        return next((f for f in self._capabilities.formats if _map_of(f) == meaning), None)

    def _spelled(self, meaning: RtpMap) -> str:
        """The value of its `a=rtpmap`."""
        audio = self._format(meaning)
        name = audio.name if audio else meaning.encoding.lower() if meaning.encoding == EVENTS else meaning.encoding
        return f"{name}/{meaning.rate}" + (f"/{meaning.channels}" if meaning.channels > 1 else "")

    def _parameters(self, meaning: RtpMap) -> str:
        """The value of its `a=fmtp`."""
        audio = self._format(meaning)
        return audio.parameters if audio else "0-15" if meaning.encoding == EVENTS else ""


def choose(
    description: SessionDescription, ours: str, capabilities: Capabilities, *, theirs: bool = False
) -> tuple[int, MediaDescription, Agreement]:
    """The first audio stream that we can serve at our address: its place, itself, and what it would come to.

    `theirs`: take the codec that it names first. Raises `NotAcceptableHere` where there is none, `BadRequest` where
    its address is none.
    """
    problem = "there is no audio"
    for place, media in enumerate(description.media):
        if media.kind != "audio" or media.port == 0:
            continue
        if media.protocol.upper() not in PROTOCOLS:
            problem = f"the audio is {media.protocol}, only {' and '.join(PROTOCOLS)} are spoken"
            continue
        types = media.payload_types
        common = capabilities.common(types)
        chosen = common[0] if theirs and common else capabilities.chosen(types)
        if chosen is None:
            problem = f"none of {', '.join(f.name for f in capabilities.formats)} is offered"
            continue
        number, codec = chosen
        event = _events_beside(codec, types)
        address = description.address_of(media) or ""
        _check_address(address, ours)
        agreement = Agreement(
            address,
            media.port,
            codec.name,
            number,
            event,
            Direction.SENDRECV,
            False,
            parameters=media.parameters(number),
            event_rate=types[event].rate if event is not None else codec.clock_rate,
            receives={number: codec.name},
            receives_events=event,
            rtcp_port=media.port if media.rtcp_mux else media.rtcp_port,
        )
        return place, media, agreement
    raise NotAcceptableHere(problem)


def _events_beside(codec: AudioFormat, types: Mapping[int, RtpMap]) -> int | None:
    """The payload type of the telephone-events that go with `codec`: those of its clock (RFC 4733 section 2.1), or any.

    Phones in use have telephone-event/8000 alone beside opus/48000.
    """
    events = {number: meaning.rate for number, meaning in types.items() if meaning.encoding == EVENTS}
    return min(events, key=lambda number: events[number] != codec.clock_rate, default=None)


def _as_we_said(
    agreement: Agreement, media: MediaDescription, said: SessionDescription, capabilities: Capabilities
) -> Agreement:
    """Fills in what the peer may send: what it has accepted, with the numbers of our offer (RFC 3264 section 5.1)."""
    accepted = set(media.payload_types.values())
    ours = next((m.payload_types for m in said.media if m.port), {})
    receives = {number: f.name for number, f in capabilities.common(ours) if _map_of(f) in accepted}
    events = RtpMap(EVENTS, agreement.event_rate)
    number = next((number for number, meaning in ours.items() if meaning == events), None)
    return replace(
        agreement,
        receives=receives,
        receives_events=None if agreement.telephone_event is None else number,
        # Nobody may answer with what was not offered (RFC 5761 section 5.1.1).
        rtcp_port=agreement.rtcp_port if any(m.rtcp_mux for m in said.media) else media.rtcp_port,
    )


def _map_of(codec: AudioFormat) -> RtpMap:
    return RtpMap(codec.name.upper(), codec.clock_rate, codec.channels)


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
