"""E_UA_SESSION events: what happens in the UA sessions of OpenSIPS (modules/b2b_entities, "Exported Events").

The contract of `parse_event`: a `UaEvent` whose fields fit together, or `BadEvent`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from connector.errors import BadEvent

EVENT = "E_UA_SESSION"

E = TypeVar("E", bound=Enum)

_KEY = re.compile(r"[A-Za-z0-9._\-]{1,128}")
_METHOD = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]{1,32}")


class EventType(Enum):
    """What happened."""

    NEW = "NEW"
    """An INVITE that begins a session."""
    EARLY = "EARLY"
    """A provisional response to a request of ours."""
    ANSWERED = "ANSWERED"
    """A 2xx to a request of ours."""
    REJECTED = "REJECTED"
    """A final refusal of a request of ours, or a time-out (408)."""
    UPDATED = "UPDATED"
    """A request within the session, ACK included."""
    TERMINATED = "TERMINATED"
    """BYE or CANCEL."""


class Entity(Enum):
    """Which side of the session OpenSIPS is."""

    UAS = "UAS"
    UAC = "UAC"


_STATUSES = {
    EventType.EARLY: range(100, 200),
    EventType.ANSWERED: range(200, 300),
    EventType.REJECTED: range(300, 700),
}
"""Statuses of responses; requests have 0."""


@dataclass(frozen=True, slots=True)
class UaEvent:
    """One event of session `key`.

    `method`: of the request, or of the request that a response answers. `status`, `reason`: of a response,
    0 and "" of a request. `headers`: all header lines, with their CRLF. `extra`: of NEW, what `ua.cfg` passed on.
    """

    key: str
    type: EventType
    entity: Entity
    method: str
    status: int = 0
    reason: str = ""
    headers: str = ""
    body: str = ""
    extra: str = ""


def parse_event(data: bytes) -> UaEvent:
    """Reads one datagram of `event_datagram`. Raises `BadEvent`."""
    try:
        # Header values come through as they were received, UTF-8 or not.
        message = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise BadEvent("the datagram is not JSON") from error
    if not isinstance(message, dict) or message.get("method") != EVENT:
        raise BadEvent(f"the datagram is not {EVENT}")
    fields = message.get("params")
    if not isinstance(fields, dict):
        raise BadEvent("the event has no parameters")
    event = UaEvent(
        key=_text(fields, "key"),
        type=_member(EventType, fields, "event_type"),
        entity=_member(Entity, fields, "entity_type"),
        method=_text(fields, "method"),
        status=_status(fields),
        reason=_text(fields, "reason"),
        headers=_text(fields, "headers"),
        body=_text(fields, "body"),
        extra=_text(fields, "extra_params"),
    )
    _check(event)
    return event


def _check(event: UaEvent) -> None:
    if not _KEY.fullmatch(event.key):
        raise BadEvent("key is none")
    if not _METHOD.fullmatch(event.method):
        raise BadEvent("method is none")
    if event.status not in _STATUSES.get(event.type, (0,)):
        raise BadEvent(f"status {event.status} of {event.type.name}")
    if event.type is EventType.NEW and (event.entity is not Entity.UAS or event.method != "INVITE"):
        raise BadEvent("NEW is no incoming INVITE")
    if event.type is EventType.TERMINATED and event.method not in ("BYE", "CANCEL"):
        raise BadEvent(f"TERMINATED by {event.method}")


def _text(fields: dict[str, Any], name: str) -> str:
    """A string field; OpenSIPS writes null for an empty one."""
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadEvent(f"{name} is no text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadEvent(f"{name} is no Unicode text") from error
    return value


def _status(fields: dict[str, Any]) -> int:
    value = fields.get("status")
    if type(value) is not int:
        raise BadEvent("status is no number")
    return value


def _member(kind: type[E], fields: dict[str, Any], name: str) -> E:
    try:
        return kind(fields.get(name))
    except ValueError:
        raise BadEvent(f"{name} is unknown") from None
