"""Defects of a known connector that ours must not have: two final answers to one INVITE, an INFO left to chance.

Each check runs on our code, and on a variant that is broken in that way, which it must catch.
"""

from __future__ import annotations

from contextlib import suppress

import pytest

from connector.errors import ProtocolError
from connector.sip.message import Request, Response, encode, parse, respond
from connector.sip.transactions import Key, RequestReceived, Transactions
from tests.fakes.sip import facing, sdp

PEER = ("192.0.2.1", 5060)


class TwoAnswers(Transactions):
    """The broken variant: whatever the transaction user says goes out, the state is not asked."""

    def respond(self, key: Key, response: Response, now: float) -> None:
        self._datagrams.append((encode(response), PEER))


def answers_once(transactions: Transactions) -> None:
    """An INVITE is answered 200 by one handler, and the handler for unknown methods answers 405 to it too."""
    invite = parse(
        b"INVITE sip:1000@h SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\n"
        b"To: <sip:b@h>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\r\n"
    )
    assert isinstance(invite, Request)
    transactions.receive(invite, PEER, 0.0)
    (event,) = transactions.events()
    assert isinstance(event, RequestReceived)
    for status in (200, 405):
        with suppress(ProtocolError):
            transactions.respond(event.key, respond(invite, status, to_tag="t"), 0.0)
    finals = [parse(data) for data, _ in transactions.datagrams()]
    assert [m.code for m in finals if isinstance(m, Response) and m.code >= 200] == [200]


def test_one_invite_one_final_answer() -> None:
    answers_once(Transactions(lambda: "b"))


def test_the_check_catches_two_final_answers() -> None:
    with pytest.raises(AssertionError):
        answers_once(TwoAnswers(lambda: "b"))


@pytest.mark.parametrize(
    "method", ["INFO", "UPDATE", "OPTIONS", "NOTIFY", "MESSAGE", "REFER", "WIBBLE", "BYE", "INVITE"]
)
async def test_every_request_in_a_call_has_exactly_one_final_answer(method: str) -> None:
    async with facing() as (callee, phone):
        _, to = await phone.call(callee.inbox)
        before = len(phone.received)
        phone.send(phone.compose(method, to=to, cseq=2, body=sdp() if method == "INVITE" else ""))
        phone.send(phone.compose("ACK", to=to, cseq=2, branch="z9hG4bKack"))
        phone.send(phone.compose("OPTIONS", call_id="marker"))
        while (await phone.arrivals.get()).call_id != "marker":
            pass
        # Copies of one answer are repetition (the ACK may overtake the 200), different ones are two answers.
        answers = {
            m.code
            for m in phone.received[before:]
            if isinstance(m, Response) and m.call_id != "marker" and m.code >= 200
        }
        assert len(answers) == 1
