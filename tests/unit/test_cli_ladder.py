"""The ladder as `voxtrunk calls show` draws it."""

from __future__ import annotations

from connector.cli.ladder import ladder
from connector.record import Step


def step(at: float, sent: bool, message: str, note: str = "") -> Step:
    return Step(at=at, sent=sent, message=message, note=note)


def test_a_short_call() -> None:
    steps = [
        step(0, False, "INVITE", "PCMU sendrecv 192.0.2.1:41000"),
        step(0.001, True, "100 Trying"),
        step(0.02, True, "200 OK", "PCMU sendrecv 192.0.2.2:31000"),
        step(0.03, False, "ACK"),
        step(61.5, False, "BYE", "Reason: Q.850;cause=16"),
        step(61.501, True, "200 OK"),
    ]
    assert list(ladder(steps, "192.0.2.1:5060")) == [
        "     time  192.0.2.1:5060        voxtrunk",
        "    0.000         │─ INVITE ───────▶│     PCMU sendrecv 192.0.2.1:41000",
        "    0.001         │◀─── 100 Trying ─│",
        "    0.020         │◀─────── 200 OK ─│     PCMU sendrecv 192.0.2.2:31000",
        "    0.030         │─ ACK ──────────▶│",
        "   61.500         │─ BYE ──────────▶│     Reason: Q.850;cause=16",
        "   61.501         │◀─────── 200 OK ─│",
    ]


def test_columns_are_straight_whatever_is_said() -> None:
    steps = [step(0, False, "INVITE"), step(1, True, "503 " + "Unavailable " * 5), step(2, False, "ACK", "x")]
    for peer in ("", "192.0.2.1:5060", "[2001:db8:0:1:1:1:1:1]:5060"):
        head, *lines = ladder(steps, peer)
        assert {(line.index("│"), line.rindex("│")) for line in lines} == {(lines[0].index("│"), lines[0].rindex("│"))}
        middle = head.index("voxtrunk") + len("voxtrunk") // 2
        assert middle - lines[0].rindex("│") in (0, 1)


def test_what_the_far_end_wrote_cannot_move_the_cursor() -> None:
    (_, line) = ladder([step(0, False, "INVITE\x1b[2J", "a\nb")], "peer\x07")
    assert "\x1b" not in line
    assert "\n" not in line


def test_without_messages_there_is_nothing() -> None:
    assert not list(ladder([], "192.0.2.1:5060"))
