"""The UA sessions of OpenSIPS as commands (modules/b2b_entities), with its bugs worked round.

- Extra headers without a body are sent as uninitialised memory. So headers always travel as the
  "content type" of a body, an empty one where there is none: `content_type` is whole header lines.
- Optional parameters are taken in fixed combinations only; body and content_type together always are.
- A list of all sessions' time-outs is changed without a lock, and OpenSIPS crashes where two of its processes
  do that at once: within minutes at 30 calls per second. So ua.cfg has one worker, which begins sessions,
  takes BYEs, and also ends sessions when the UA sends itself a MESSAGE: MI's own `ua_session_terminate` is never
  used, it would run in a process of MI's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from connector.errors import MiError, MiRefused, MiTimeout
from connector.mi.client import MiClient
from connector.sip.message import Address, hostport

TERMINATED_HEADER = "X-Voxtrunk-Session"
"""Names the session that a MESSAGE ends (ua.cfg)."""

FLAGS = "t43200arhb"
"""Of sessions that we start, as in ua.cfg: at most 12 hours; ACKs and replies reported, with headers and body."""


class SessionState(IntEnum):
    """`b2b_state_t` of modules/b2b_entities/dlg.h."""

    UNDEFINED = 0
    NEW = 1
    NEW_AUTH = 2
    EARLY = 3
    CONFIRMED = 4
    """A 2xx was sent or received."""
    ESTABLISHED = 5
    """Its ACK too."""
    MODIFIED = 6
    """A re-INVITE is or was under way."""
    TERMINATED = 7


@dataclass(frozen=True, slots=True)
class Session:
    """A session that OpenSIPS has."""

    key: str
    state: SessionState


class UaSessions:
    """Verbs of UA sessions. All raise `MiRefused` and `MiTimeout`, unless they say otherwise.

    `ua`: the UA's SIP socket.
    """

    def __init__(self, mi: MiClient, ua: Address) -> None:
        self._mi = mi
        self._ua = hostport(ua)

    async def reply(
        self, key: str, method: str, status: int, reason: str, headers: Mapping[str, str], body: str = ""
    ) -> None:
        """Answers the session's request of `method`. A final answer that is given twice is sent once."""
        content = _content(headers, body)
        await self._mi.call("ua_session_reply", key=key, method=method, code=status, reason=reason, **content)

    async def request(self, key: str, method: str, headers: Mapping[str, str], body: str = "") -> None:
        """Sends a request in the session; its answer comes as an event. A 2xx to INVITE is acknowledged by OpenSIPS."""
        await self._mi.call("ua_session_update", key=key, method=method, **_content(headers, body))

    async def cancel(self, key: str) -> None:
        """Cancels a session that we started; it is gone once its INVITE has a final answer.

        Unlike `terminate` this keeps the session until then, so that a 2xx that crosses is acknowledged
        and ended.
        """
        await self._mi.call("ua_session_update", key=key, method="CANCEL")

    async def terminate(self, key: str) -> None:
        """Has OpenSIPS send BYE where that is due, and forget the session. One that is not there is well, too."""
        headers = f"From: <sip:{self._ua}>\r\nTo: <sip:{self._ua}>\r\n{TERMINATED_HEADER}: {key}\r\n"
        answer = await self._mi.call("t_uac_dlg", method="MESSAGE", ruri=f"sip:{self._ua}", headers=headers)
        status = str(answer.get("Status")) if isinstance(answer, dict) else ""
        # 481 of a session that is gone, and of one that we started and that was refused after ringing: nothing
        # makes OpenSIPS forget that one.
        if not status.startswith(("200", "481")):
            raise MiTimeout(f"MI: {self._ua} does not end a session: {status or answer}")

    async def find(self, key: str) -> Session | None:
        """The session, None where OpenSIPS has none of this key."""
        try:
            return _session(await self._mi.call("ua_session_list", key=key))
        except MiRefused as refused:
            if refused.code == 404:
                return None
            raise

    async def all(self) -> list[Session]:
        """Every session. OpenSIPS never answers where the list does not fit into a datagram, from some 120 on."""
        found = await self._mi.call("ua_session_list")
        if not isinstance(found, list):
            raise MiError("MI: ua_session_list has no list")
        return [_session(entry) for entry in found]

    async def start(
        self, uri: str, caller: str, headers: Mapping[str, str], body: str, *, socket: str, proxy: str
    ) -> str:
        """Sends an INVITE for `uri` from `socket` by way of `proxy`; the key of the new session.

        `caller`: a SIP URI. `headers` must not be empty.
        """
        key = await self._mi.call(
            "ua_session_client_start",
            ruri=uri,
            to=uri,
            **{"from": caller},
            proxy=proxy,
            flags=FLAGS,
            socket=socket,
            **_content(headers, body),
        )
        if not isinstance(key, str):
            raise MiError("MI: ua_session_client_start has no key")
        return key


def _content(headers: Mapping[str, str], body: str) -> dict[str, str | int]:
    """The parameters for `headers` and `body`."""
    if not headers and not body:
        return {}
    return {"body": body, "content_type": "".join(f"{name}: {value}\r\n" for name, value in headers.items())}


def _session(entry: Any) -> Session:
    """A session as MI lists it: its key is the To tag of an incoming call, the Call-ID of an outgoing one."""
    try:
        keys = [entry[field] for field in ("to_tag", "callid") if str(entry[field]).startswith("B2B.")]
        return Session(keys[0], SessionState(entry["state"]))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise MiError("MI: ua_session_list cannot be read") from error
