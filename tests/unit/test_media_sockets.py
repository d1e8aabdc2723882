"""Media sockets, read in one go, and the timer that the ticks rest on."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from connector.app import SystemClock
from connector.udp.latch import Address
from connector.udp.media import EXPEDITED_FORWARDING, MOST, MediaSocket, MediaSockets
from connector.udp.timer import Timer


class Inbox:
    """What a socket handed on."""

    def __init__(self) -> None:
        self.datagrams: list[bytes] = []
        self.sources: list[Address] = []
        self.arrivals: list[float] = []

    def take(self, data: bytes, source: Address, arrival: float) -> None:
        self.datagrams.append(data)
        self.sources.append(source)
        self.arrivals.append(arrival)


@pytest.fixture
def sender() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        yield made


def read(reader: MediaSockets) -> None:
    reader.read(time.monotonic(), time.time())


async def test_nothing_is_handed_on_between_two_reads_and_then_everything_in_order(sender: socket.socket) -> None:
    reader, inboxes = MediaSockets(), [Inbox() for _ in range(3)]
    sockets = [MediaSocket("127.0.0.1", 0, reader, inbox.take) for inbox in inboxes]
    for number in range(30):
        sender.sendto(b"%d" % number, sockets[number % 3].local)
    await asyncio.sleep(0)
    assert [inbox.datagrams for inbox in inboxes] == [[], [], []]
    read(reader)
    for index, inbox in enumerate(inboxes):
        assert inbox.datagrams == [b"%d" % number for number in range(index, 30, 3)]
        assert set(inbox.sources) == {sender.getsockname()}
    for made in sockets:
        made.close()


async def test_the_kernel_tells_when_a_datagram_came_however_late_it_is_read(sender: socket.socket) -> None:
    reader, inbox = MediaSockets(), Inbox()
    made = MediaSocket("127.0.0.1", 0, reader, inbox.take)
    before = time.monotonic()
    sender.sendto(b"early", made.local)
    between = time.monotonic()
    while time.monotonic() < between + 0.01:  # the process is busy
        pass
    sender.sendto(b"late", made.local)
    after = time.monotonic()
    read(reader)
    early, late = inbox.arrivals
    jiffy = 1e-4  # wall and monotonic time are read one after the other
    assert before - jiffy <= early <= between + jiffy < between + 0.01 - jiffy <= late <= after + jiffy
    made.close()


async def test_a_wall_clock_that_was_set_meanwhile_makes_no_arrival_of_the_past_or_future(
    sender: socket.socket,
) -> None:
    reader, inbox = MediaSockets(), Inbox()
    made = MediaSocket("127.0.0.1", 0, reader, inbox.take)
    for step in (-3600.0, 3600.0):
        sender.sendto(b"x", made.local)
        reader.read(100.0, time.time() + step)
    assert inbox.arrivals == [100.0, 100.0]
    made.close()


async def test_a_flooded_socket_neither_keeps_the_reader_nor_hides_the_others(sender: socket.socket) -> None:
    reader, flooded, quiet = MediaSockets(), Inbox(), Inbox()
    first = MediaSocket("127.0.0.1", 0, reader, flooded.take)
    second = MediaSocket("127.0.0.1", 0, reader, quiet.take)
    for _ in range(3 * MOST):  # more than the socket's buffer holds, too
        sender.sendto(b"flood", first.local)
    sender.sendto(b"hello", second.local)
    read(reader)
    assert len(flooded.datagrams) <= MOST
    assert quiet.datagrams == [b"hello"]
    first.close()
    second.close()


async def test_a_socket_that_is_closed_by_what_another_brings_is_not_read(sender: socket.socket) -> None:
    reader, inbox = MediaSockets(), Inbox()
    made: list[MediaSocket] = []

    def close_all(data: bytes, source: Address, arrival: float) -> None:
        inbox.take(data, source, arrival)
        for one in made:
            one.close()
            one.close()

    made += [MediaSocket("127.0.0.1", 0, reader, close_all) for _ in range(2)]
    for one in made:
        sender.sendto(b"x", one.local)
    read(reader)
    read(reader)
    assert inbox.datagrams == [b"x"]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_packets_are_marked_for_expedited_forwarding(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    level, option, kind = (
        (socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, socket.IPV6_TCLASS)
        if family == socket.AF_INET6
        else (socket.IPPROTO_IP, 13, socket.IP_TOS)  # IP_RECVTOS, for which Python has no name
    )
    with socket.socket(family, socket.SOCK_DGRAM) as peer:
        peer.bind((address, 0))
        peer.settimeout(5)
        peer.setsockopt(level, option, 1)
        made = MediaSocket(address, 0, MediaSockets(), Inbox().take)
        made.send(b"voice", peer.getsockname()[:2])
        data, [(_, found, value)], _, source = peer.recvmsg(2048, 64)
        assert (data, found, value[0]) == (b"voice", kind, EXPEDITED_FORWARDING)
        assert source[:2] == made.local
        made.close()


async def test_the_timer_never_returns_early_and_at_once_for_what_has_passed() -> None:
    timer = Timer()
    begun = time.monotonic()
    await timer.until(begun + 0.0304)
    assert time.monotonic() >= begun + 0.0304
    await timer.until(begun)
    await timer.until(-1.0)
    timer.close()


async def test_a_cancelled_wait_leaves_no_descriptor_behind() -> None:
    clock = SystemClock()
    with socket.socket() as probe:
        lowest = probe.fileno()
    await clock.sleep_until(0.0)
    sleepers = [asyncio.create_task(clock.sleep_until(time.monotonic() + 3600)) for _ in range(2)]
    await asyncio.sleep(0)
    for sleeper in sleepers:
        sleeper.cancel()
    await asyncio.wait(sleepers)
    with socket.socket() as probe:
        assert probe.fileno() == lowest
