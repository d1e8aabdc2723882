"""The contract of the SIP and SDP readers: accept, or raise `BadRequest`. 100,000 seeded messages.

And what it is for: an endpoint that is fed rubbish goes on with the call beside it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from connector.config.model import MediaSettings
from connector.errors import BadRequest, NotAcceptableHere, VoxtrunkError
from connector.leg.endpoint import capabilities
from connector.leg.sip_socket import SipSocket
from connector.sip.bodies import parse_dtmf, sdp_body, sipfrag_status
from connector.sip.digest import DigestClient, DigestServer, NoChallenge, parse_digest
from connector.sip.message import Message, Request, encode, parse, respond, stateless_tag, tokens
from connector.sip.offer_answer import Negotiation
from connector.sip.sdp import parse_sdp
from connector.sip.transactions import Timing, Transactions
from tests.fakes.sip import facing, next_event, sdp

SIP_MESSAGES, SDP_MESSAGES, ENDPOINT_MESSAGES, CREDENTIALS = 50_000, 40_000, 10_000, 10_000

DATA = Path(__file__).parents[1] / "data" / "sip"
MESSAGES = [path.read_bytes().replace(b"\n", b"\r\n") for path in sorted(DATA.glob("*.sip"))]
DESCRIPTIONS = [(DATA / "phone.sdp").read_bytes().replace(b"\n", b"\r\n"), sdp().encode()]

TROUBLE = [
    *(character.encode() for character in '\r\n\0:;,<>"\\=@ \t%[]'),
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\xff",
        b"\xc3\x28",
        b"\xe2\x80\x8f",
        b"\xd9\xa3",
        b"%00",
        b"-1",
        b"0",
        b"9" * 20,
        b"::1]",
    ),
    *(b"sip:", b"tel:", b"SIP/2.0", b";self=1", b";tag=", b"0.0.0.0", b"Via: ", b"Content-Length: 5\r\n"),
    *(b"m=audio 0 RTP/AVP 0\r\n", b"a=rtpmap:", b"a=inactive\r\n", b"c=IN IP4 224.0.0.1\r\n"),
]


def mutated(rng: random.Random, seed: bytes) -> bytes:
    """`seed` after one to three accidents: bytes flipped, cut, doubled, moved, or replaced by troublemakers."""
    data = bytearray(seed)
    for _ in range(rng.randint(1, 3)):
        if not data:
            break
        at = rng.randrange(len(data))
        end = min(len(data), at + rng.randint(1, 30))
        match rng.randrange(7):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = rng.choice(TROUBLE)
            case 3:
                data[at:end] = rng.choice(TROUBLE)
            case 4:
                data[at:at] = data[at:end] * rng.randint(1, 4)
            case 5:
                del data[rng.randrange(len(data)) :]
            case 6:
                lines = bytes(data).split(b"\r\n")
                rng.shuffle(lines) if rng.random() < 0.1 else lines.pop(rng.randrange(len(lines)))
                data = bytearray(b"\r\n".join(lines))
    return bytes(data)


def drawn(rng: random.Random, corpus: list[bytes]) -> bytes:
    """A mutant of the corpus, or now and then pure noise."""
    return rng.randbytes(rng.randint(0, 300)) if rng.random() < 0.05 else mutated(rng, rng.choice(corpus))


def accepted(read: Callable[[], object], *refusals: type[VoxtrunkError]) -> bool:
    """Whether `read` returns; False where it refuses as documented. Anything else is the test's failure."""
    try:
        read()
    except (BadRequest, *refusals):
        return False
    return True


def look_at(data: bytes) -> None:
    """Reads a message and everything in it that an endpoint looks at before it knows the caller."""
    message: Message = parse(data)
    for header in ("Require", "Supported", "Allow"):
        tokens(message, header)
    if isinstance(message, Request):
        again = parse(encode(respond(message, 200, to_tag=stateless_tag(message))))
        assert again.headers.getlist("Via") == message.headers.getlist("Via")
        transactions = Transactions(lambda: "b")
        transactions.receive(message, ("127.0.0.1", 5060), 0.0)


def test_sip_messages_are_accepted_or_refused() -> None:
    rng = random.Random(3261)
    good = sum(accepted(lambda: look_at(drawn(rng, MESSAGES))) for _ in range(SIP_MESSAGES))
    assert SIP_MESSAGES * 0.1 < good < SIP_MESSAGES * 0.95, "the mutants reach both sides"


def test_bodies_are_accepted_or_refused() -> None:
    rng = random.Random(5621)
    for _ in range(2_000):
        data = drawn(rng, MESSAGES)
        try:
            message = parse(data)
        except BadRequest:
            continue
        for read in (sdp_body, parse_dtmf, sipfrag_status):
            accepted(partial(read, message), VoxtrunkError)


def test_descriptions_are_answered_or_refused() -> None:
    rng = random.Random(8866)

    def answer(body: bytes) -> None:
        description = parse_sdp(body)
        parse_sdp(str(description).encode("utf-8", "replace"))
        said = Negotiation("127.0.0.1", 40000, 1, capabilities(MediaSettings())).answer(description)
        assert len(said.media) == len(description.media)
        assert sum(media.port > 0 for media in said.media) == 1

    good = sum(accepted(lambda: answer(drawn(rng, DESCRIPTIONS)), NotAcceptableHere) for _ in range(SDP_MESSAGES))
    assert SDP_MESSAGES * 0.1 < good < SDP_MESSAGES * 0.95


def test_credentials_and_challenges_are_read_or_refused() -> None:
    rng, server = random.Random(7616), DigestServer("voxtrunk", {"bob": "x"}, b"s")
    challenges = server.challenges(5.0)
    right = DigestClient("bob", "x", lambda: "c").authorize("INVITE", "sip:1@h", challenges)
    corpus = [right.encode(), challenges[0].encode()]
    for _ in range(CREDENTIALS):
        value = drawn(rng, corpus).decode("utf-8", "surrogateescape")
        accepted(partial(parse_digest, value))
        accepted(partial(server.verify, "INVITE", [value], 6.0), VoxtrunkError)
        accepted(partial(DigestClient("a", "b", lambda: "c").authorize, "BYE", "sip:1@h", [value]), NoChallenge)


@pytest.mark.parametrize("tag", ["", ";tag=dialog"])
async def test_an_endpoint_under_fire_keeps_the_call_beside(tag: str) -> None:
    """Mutants of everything, half of them within the very dialog of the call but for one letter."""
    rng = random.Random(42)
    async with facing(settings={"max_calls": 3}, timing=Timing(0.02, 0.1, 0.1)) as (callee, phone):
        leg, to = await phone.call(callee.inbox)
        corpus = list(MESSAGES)
        if tag:
            composed = [phone.compose(m, to=to + "x", cseq=9, body=sdp()) for m in ("INVITE", "BYE", "INFO", "UPDATE")]
            corpus += [text.encode() for text in composed]
        socket: SipSocket = callee.endpoint._socket
        for index in range(ENDPOINT_MESSAGES // 2):
            socket.received(drawn(rng, corpus), ("127.0.0.1", 9))
            if index % 100 == 0:
                phone.send(drawn(rng, corpus))
                phone.send(phone.compose("INFO", to=to, cseq=index + 10))
                await phone.response(200, "INFO")
                while not callee.inbox.legs.empty():
                    await callee.inbox.legs.get_nowait().reject(404, "Not Found")
        phone.send(phone.compose("INFO", to=to, cseq=99_999, headers="Content-Type: application/dtmf\r\n", body="5"))
        await next_event(leg)
        phone.send(phone.compose("BYE", to=to, cseq=100_000))
        await phone.response(200, "BYE")
