"""The ticker's schedule, the port pool, latching and control sockets."""

from __future__ import annotations

import asyncio
import random

import pytest

from connector.errors import MediaError
from connector.rtp.packet import RtpPacket
from connector.udp.control import BATCH, ControlSocket
from connector.udp.latch import GRACE_SECONDS, PROBATION, Address, Latch, Trust
from connector.udp.ports import QUARANTINE_SECONDS, PortPool
from connector.udp.ticker import CATCH_UP, WORTH_WAITING_SECONDS, Evenness, Schedule, Ticker
from tests.fakes.clock import LoopClock, virtual_time

# ------------------------------------------------------------------------------------ schedule


def test_ticks_lie_on_an_absolute_grid_however_late_they_are_served() -> None:
    schedule = Schedule(100.0)
    served: list[float] = []
    now = 100.0
    for late in (0.0, 0.013, 0.019, 0.001, 0.0, 0.007) * 1000:
        served += schedule.due(now + late)
        now = schedule.next
    assert served == pytest.approx([100.0 + 0.02 * n for n in range(6000)])


def test_an_hour_of_ticks_does_not_drift() -> None:
    schedule = Schedule(5.0)
    assert sum(len(schedule.due(5.0 + 0.1 * n)) for n in range(36_000)) == 179_996
    assert schedule.next == pytest.approx(5.0 + 179_996 * 0.02)


def test_a_tick_is_due_once_and_not_early() -> None:
    schedule = Schedule(0.0)
    assert schedule.due(0.0) == [0.0]
    assert schedule.due(0.019) == []
    assert schedule.due(0.02) == [pytest.approx(0.02)]
    assert schedule.due(0.01) == [], "a clock that goes back"


def test_a_short_stall_is_made_up_and_of_a_long_one_only_the_end() -> None:
    schedule = Schedule(0.0)
    schedule.due(0.0)
    assert schedule.due(0.1) == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert schedule.skipped == 0
    after = schedule.due(60.1)
    assert len(after) == CATCH_UP
    assert after[-1] == pytest.approx(60.1)
    assert schedule.skipped == 3000 - CATCH_UP
    assert schedule.next == pytest.approx(60.12)


@virtual_time
async def test_the_ticker_calls_everyone_in_order_until_removed() -> None:
    clock = LoopClock()
    ticker = Ticker(clock)
    calls: list[tuple[str, float]] = []
    remove = ticker.add(lambda due: calls.append(("a", due)))
    ticker.add(lambda due: calls.append(("b", due)))
    task = asyncio.create_task(ticker.run())
    await clock.sleep(0.03)
    remove()
    remove()
    await clock.sleep(0.02)
    task.cancel()
    await asyncio.wait({task})
    assert [name for name, _ in calls] == ["a", "b", "a", "b", "b"]
    assert [due for _, due in calls] == pytest.approx([0.0, 0.0, 0.02, 0.02, 0.04])


@virtual_time
async def test_a_callback_that_raises_is_removed_and_the_others_go_on() -> None:
    clock = LoopClock()
    ticker = Ticker(clock)
    failures: list[Exception] = []
    ticks: list[float] = []

    def broken(due: float) -> None:
        raise KeyError("a listener's bug")

    ticker.add(broken, failures.append)
    ticker.add(ticks.append)
    task = asyncio.create_task(ticker.run())
    await clock.sleep(0.05)
    task.cancel()
    await asyncio.wait({task})
    assert [type(error) for error in failures] == [KeyError]
    assert len(ticks) == 3


def test_packets_leave_when_nearly_all_ticks_have_made_theirs() -> None:
    evenness, draw = Evenness(), random.Random(1)
    for _ in range(5000):
        evenness.take(draw.uniform(0.001, 0.003))
    assert evenness.seconds == pytest.approx(0.003, abs=0.0002)
    for _ in range(5000):
        evenness.take(1.0)
    assert evenness.seconds == Evenness.MOST_SECONDS
    for _ in range(10_000):
        evenness.take(0.0)
    assert evenness.seconds == 0.0


class LaboriousClock:
    """Time passes by work and by waiting alone; it is up after 20 s."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        await self.sleep_until(self.time + seconds)

    async def sleep_until(self, at: float) -> None:
        self.time = max(self.time, at)
        if self.time > 20:
            raise asyncio.CancelledError


async def test_packets_leave_evenly_however_unevenly_they_are_made() -> None:
    clock, draw = LaboriousClock(), random.Random(1)
    ticker = Ticker(clock)
    sent: list[float] = []

    def make(due: float) -> None:
        clock.time += draw.uniform(0.001, 0.003)

    ticker.add(make, first=True)
    ticker.add(lambda due: sent.append(ticker.sent_at - due))
    with pytest.raises(asyncio.CancelledError):
        await ticker.run()
    assert len(sent) == pytest.approx(1000, abs=2)
    later = sorted(sent[100:])
    assert later[-1] - later[0] < WORTH_WAITING_SECONDS + 0.0004


@virtual_time
async def test_a_callback_that_raises_unobserved_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    ticker = Ticker(LoopClock())
    ticker.add(lambda due: {}[due])
    task = asyncio.create_task(ticker.run())
    await LoopClock().sleep(0.05)
    task.cancel()
    await asyncio.wait({task})
    assert [record.exc_info is not None for record in caplog.records] == [True]


# ------------------------------------------------------------------------------------ ports


def test_pairs_are_even_and_each_serves_one_call() -> None:
    pool = PortPool(40_001, 40_007)
    assert {pool.acquire(0.0) for _ in range(3)} == {40_002, 40_004, 40_006}
    with pytest.raises(MediaError, match="40001-40007: 3 of 3 pairs serve calls, 0 were just released"):
        pool.acquire(0.0)


def test_a_released_pair_rests_before_it_serves_again() -> None:
    pool = PortPool.from_range("40000-40003")
    first = pool.acquire(0.0)
    pool.release(first, 1.0)
    assert pool.acquire(1.0) != first
    with pytest.raises(MediaError, match="1 of 2 pairs serve calls, 1 were just released"):
        pool.acquire(1.0 + QUARANTINE_SECONDS - 0.1)
    assert pool.acquire(1.0 + QUARANTINE_SECONDS) == first


def test_nobody_can_foretell_the_next_port() -> None:
    orders = [[pool.acquire(0.0) for _ in range(pool.size)] for pool in (PortPool(40_000, 40_999) for _ in range(2))]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(40_000, 41_000, 2))


def test_every_draw_decides() -> None:
    pool = PortPool(40_000, 40_007, draw=lambda ports: 0)
    assert [pool.acquire(0.0) for _ in range(2)] == [40_000, 40_006]


def test_a_range_without_a_pair_is_refused() -> None:
    with pytest.raises(MediaError, match="40001-40002"):
        PortPool(40_001, 40_002)


# ------------------------------------------------------------------------------------ latch

PEER: Address = ("192.0.2.1", 4000)
SAME_HOST: Address = ("192.0.2.1", 61_234)
CALLS_FROM: Address = ("198.51.100.7", 5000)
ATTACKER: Address = ("203.0.113.66", 6666)


def packet(sequence: int, ssrc: int = 1) -> RtpPacket:
    return RtpPacket(0, sequence, sequence * 160, ssrc, b"")


def behind_nat() -> Latch:
    return Latch(PEER, 0.0, signalling=CALLS_FROM[0])


def test_media_goes_to_the_negotiated_address_until_someone_is_heard() -> None:
    assert Latch(PEER, 0.0).destination == PEER
    assert Latch(None, 0.0).destination is None


@pytest.mark.parametrize("source", [SAME_HOST, CALLS_FROM, ATTACKER])
def test_nobody_but_the_negotiated_peer_is_heard_or_sent_to(source: Address) -> None:
    latch = Latch(PEER, 0.0)
    assert latch.excludes(source)
    assert not any(latch.accepts(source, packet(n), 60.0 + n) for n in range(100))
    assert latch.destination == PEER
    assert not latch.excludes(PEER)
    assert latch.accepts(PEER, packet(7), 200.0)
    assert latch.excludes(source)
    assert str(latch) == "192.0.2.1:4000, negotiated"


def test_where_nobody_was_named_nobody_is_heard() -> None:
    """A call may begin on hold, with 0.0.0.0 in its SDP: that invites no one."""
    for latch in (Latch(None, 0.0), Latch(None, 0.0, signalling=CALLS_FROM[0])):
        assert latch.excludes(ATTACKER)
        assert latch.excludes(CALLS_FROM)
        assert not latch.accepts(ATTACKER, packet(1), 10.0)
        assert not latch.accepts_control(ATTACKER)
        assert (latch.destination, str(latch)) == (None, "nobody, unheard")


def test_who_learns_takes_the_first_packet_for_good() -> None:
    latch = Latch(None, 0.0, learn=True)
    assert str(latch) == "anyone, unheard"
    assert latch.accepts(CALLS_FROM, packet(1), 0.0)
    assert latch.destination == CALLS_FROM
    assert latch.excludes(ATTACKER)
    assert not any(latch.accepts(ATTACKER, packet(n), 10.0 + n) for n in range(100))
    assert latch.destination == CALLS_FROM


def test_a_nat_that_keeps_the_address_is_followed_and_the_negotiated_port_still_wins() -> None:
    latch = behind_nat()
    accepted = [latch.accepts(SAME_HOST, packet(n), 0.02 * n) for n in range(50)]
    assert accepted.index(True) == round(GRACE_SECONDS / 0.02)
    assert latch.destination == SAME_HOST
    assert latch.accepts(PEER, packet(2), 2.0)
    assert latch.excludes(SAME_HOST)
    assert latch.trust is Trust.NEGOTIATED


def test_a_peer_behind_a_nat_is_found_where_its_signalling_comes_from() -> None:
    latch = behind_nat()
    accepted = [latch.accepts(CALLS_FROM, packet(n), 0.02 * n) for n in range(50)]
    assert accepted.index(True) == round(GRACE_SECONDS / 0.02)
    assert all(accepted[accepted.index(True) :])
    assert (latch.destination, latch.trust) == (CALLS_FROM, Trust.SIGNALLING)


def test_a_nat_opens_the_call_to_no_address_that_has_no_part_in_it() -> None:
    latch = behind_nat()
    assert latch.excludes(ATTACKER)
    assert not any(latch.accepts(ATTACKER, packet(n), 60.0 + n) for n in range(100))
    assert latch.destination == PEER


def test_a_peer_behind_a_nat_must_send_a_stream_and_not_only_packets() -> None:
    latch = behind_nat()
    assert not any(latch.accepts(CALLS_FROM, packet(7), 1.0 + n) for n in range(50))
    assert not any(latch.accepts(CALLS_FROM, packet(n, ssrc=n), 60.0 + n) for n in range(50))
    assert not any(latch.accepts((CALLS_FROM[0], n), packet(n), 120.0 + n) for n in range(50))
    assert latch.destination == PEER
    assert [latch.accepts(CALLS_FROM, packet(n), 200.0) for n in range(PROBATION)][-1]


def test_who_was_first_is_dropped_when_the_negotiated_peer_speaks() -> None:
    latch = behind_nat()
    assert any(latch.accepts(CALLS_FROM, packet(n), 1.0) for n in range(10))
    assert latch.accepts(PEER, packet(500), 2.0)
    assert latch.destination == PEER
    assert not any(latch.accepts(CALLS_FROM, packet(n), 3.0) for n in range(10, 60))


def test_reports_come_from_the_port_above_the_medias() -> None:
    latch = Latch(PEER, 0.0)
    assert latch.accepts_control((PEER[0], PEER[1] + 1))
    assert not any(latch.accepts_control(other) for other in (PEER, SAME_HOST, ATTACKER))


def test_reports_of_a_peer_behind_a_nat_come_from_any_port_of_its_address() -> None:
    latch = behind_nat()
    for n in range(PROBATION):
        latch.accepts(CALLS_FROM, packet(n), 1.0)
    assert latch.accepts_control((CALLS_FROM[0], 1))
    assert not latch.accepts_control(ATTACKER)


# ------------------------------------------------------------------------------------ control sockets


async def test_signalling_is_read_several_datagrams_at_a_time_and_in_order() -> None:
    heard: list[bytes] = []
    turns: list[int] = []
    server = ControlSocket(lambda data, source: heard.append(data), local=("127.0.0.1", 0))
    client = ControlSocket(lambda data, source: None, remote=server.local)
    sent = [bytes([number]) for number in range(3 * BATCH)]
    for data in sent:
        client.send(data)
    while len(heard) < len(sent):
        await asyncio.sleep(0)
        turns.append(len(heard))
    assert heard == sent
    assert max(after - before for before, after in zip([0, *turns], turns, strict=False)) == BATCH
    server.close()
    client.close()


async def test_a_connected_socket_hears_its_peer_alone_and_outlives_its_absence() -> None:
    heard: list[bytes] = []
    peer = ControlSocket(lambda data, source: peer.send(data, source), local=("127.0.0.1", 0))
    server, stranger = peer.local, ControlSocket(lambda data, source: None, local=("127.0.0.1", 0))
    ours = ControlSocket(lambda data, source: heard.append(data), remote=server)
    stranger.send(b"forged", ours.local)
    peer.close()
    ours.send(b"to nobody")
    ours.send(b"ICMP has said so by now")
    peer = ControlSocket(lambda data, source: peer.send(data, source), local=server)
    async with asyncio.timeout(5):
        while not heard:
            ours.send(b"again")
            await asyncio.sleep(0)
    assert set(heard) == {b"again"}
    for one in (peer, stranger, ours):
        one.close()
