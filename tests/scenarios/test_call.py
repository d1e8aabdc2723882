"""The life of a call, in virtual time: every way it can begin, go on and end."""

from __future__ import annotations

import asyncio
import logging

import pytest

from connector.call import Pressure, Registry, State
from connector.call.call import FAREWELL_SECONDS
from connector.config.model import Flavor
from connector.errors import CallFailed, EngineUnreachable, UnknownNumber
from connector.interfaces import (
    CallInfo,
    Digit,
    Established,
    HangUp,
    Held,
    MediaTimeout,
    Party,
    Resumed,
    SendDtmf,
    Terminated,
    Transfer,
)
from connector.record import Disposition
from tests.fakes.audio_port import FakeAudioPort
from tests.fakes.calls import Stage, a_leg, over
from tests.fakes.cdr_store import FakeCdrStore
from tests.fakes.clock import virtual_time
from tests.fakes.engines import tone
from tests.fakes.leg import FakeLeg


@virtual_time
async def test_a_call_rings_is_answered_and_ends_with_the_callers_bye() -> None:
    stage = Stage()
    async with a_leg(stage.clock) as leg:
        call = stage.take(leg)
        await stage.clock.sleep(60)
        assert call.state is State.CONFIRMED
        assert [pipeline.running for pipeline in stage.pipelines] == [True]
        leg.emit(Terminated(Party.CALLER, "BYE"))
        (record,) = await over(stage)
    assert leg.verbs == ["ring", "answer"]
    assert [pipeline.running for pipeline in stage.pipelines] == [False]
    assert stage.store.records == [record]
    assert (record.disposition, record.ended_by, record.reason) == (Disposition.ANSWERED, Party.CALLER, "BYE")
    assert (record.call_id, record.called, record.calling) == ("call-1@test", "1000", "+4930123456")
    assert (record.flavor, record.route) == ("desk", "number 1000")
    assert record.duration_seconds == pytest.approx(60, abs=0.2)
    assert record.setup_seconds == 0
    assert record.status is None
    assert stage.monitor.told == ["began", "answered by desk", "ended"]
    assert '"setup":"2023-11-14T22:13:20.000Z"' in record.json_line()


@virtual_time
async def test_the_greeting_waits_for_the_acknowledgement() -> None:
    """A phone that has not yet processed the 200 would miss the greeting's first words."""
    stage = Stage()
    clock = stage.clock
    async with FakeAudioPort(clock) as port:
        leg = FakeLeg(port, acknowledges=False)
        call = stage.take(leg)
        await clock.sleep(0.1)
        port.write(1, tone(440, 1.0))
        await clock.sleep(1.9)
        assert call.state is State.ANSWERED
        assert [pipeline.running for pipeline in stage.pipelines] == [True]
        assert not port.voice
        leg.emit(Established())
        await clock.sleep(2)
        assert port.voice[0][0] == pytest.approx(2.0, abs=0.021)
        assert port.voice_between(0, 4) == pytest.approx(1.0)
        leg.emit(Terminated(Party.CALLER, "BYE"))
        await over(stage)


@virtual_time
async def test_a_hold_right_after_the_acknowledgement_is_a_hold() -> None:
    """What the acknowledgement lets out does not undo it."""
    stage = Stage()
    async with a_leg(stage.clock, acknowledges=False) as leg:
        call = stage.take(leg)
        await stage.clock.sleep(1)
        leg.emit(Established())
        leg.emit(Held())
        await stage.clock.sleep(1)
        assert call.state is State.HELD
        assert stage.pipelines[0].told == ["held"]
        leg.emit(Terminated(Party.CALLER, "BYE"))
        await over(stage)


@virtual_time
async def test_a_caller_who_gives_up_while_it_rings_has_cancelled() -> None:
    stage = Stage()
    async with a_leg(stage.clock) as leg:
        leg.emit(Terminated(Party.CALLER, "CANCEL", 487))
        stage.take(leg)
        (record,) = await over(stage)
    assert (record.disposition, record.ended_by, record.status) == (Disposition.CANCELLED, Party.CALLER, 487)
    assert record.answered is None
    assert record.duration_seconds == 0
    assert record.errors == []


@virtual_time
async def test_an_unknown_number_is_refused_with_404_and_is_no_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    async with a_leg(stage.clock) as leg:
        stage.take(leg, refuses=UnknownNumber("no route"))
        (record,) = await over(stage)
    assert leg.verbs == ["reject 404 Not Found"]
    assert (record.disposition, record.status, record.reason) == (Disposition.REJECTED, 404, "no route")
    assert record.flavor is None
    assert record.errors == []
    (refused,) = [entry for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert (refused.levelno, refused.getMessage()) == (logging.WARNING, "call refused")


@virtual_time
async def test_a_call_over_the_cap_is_told_when_to_try_again() -> None:
    stage = Stage()
    async with a_leg(stage.clock) as first, a_leg(stage.clock) as second, a_leg(stage.clock) as third:
        for leg in (first, second, third):
            stage.take(leg)
        await over(stage)
        assert third.verbs == ["reject 503 Service Unavailable after 7"]
        assert len(stage.registry.calls) == 2
        second.emit(Terminated(Party.CALLER, "BYE"))
        await over(stage, 2)
        async with a_leg(stage.clock) as fourth:
            stage.take(fourth)
            await stage.clock.sleep(1)
            assert fourth.verbs == ["ring", "answer"]
            await stage.registry.stop()


@virtual_time
async def test_a_machine_that_does_not_keep_up_takes_no_more_calls_until_it_does() -> None:
    pressure = Pressure()
    stage = Stage(registry=Registry(cap=2, retry_after=7, pressure=pressure))
    async with a_leg(stage.clock) as first, a_leg(stage.clock) as second:
        pressure.ticked(0.4)
        stage.take(first)
        await over(stage)
        assert first.verbs == ["reject 503 Service Unavailable after 7"]
        assert "audio leaves 400 ms late" in stage.store.records[0].reason
        for _ in range(50):
            pressure.ticked(0.001)
        stage.take(second)
        await stage.clock.sleep(1)
        assert second.verbs == ["ring", "answer"]
        await stage.registry.stop()


@virtual_time
async def test_a_bug_in_one_call_leaves_the_other_untouched(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    async with a_leg(stage.clock) as broken, a_leg(stage.clock, info=CallInfo("call-2", "1000", "200")) as healthy:
        stage.take(broken, fails=ZeroDivisionError("division by zero"))
        stage.take(healthy)
        (record,) = await over(stage)
        assert broken.verbs == ["ring", "answer", "hang up: internal error"]
        assert (record.disposition, record.ended_by, record.reason) == (
            Disposition.ANSWERED,
            Party.SYSTEM,
            "internal error",
        )
        assert record.errors == ["ZeroDivisionError: division by zero"]
        assert [pipeline.running for pipeline in stage.pipelines] == [False, True]
        healthy.emit(Terminated(Party.CALLER, "BYE"))
        records = await over(stage, 2)
    assert records[1].errors == []
    bugs = [entry for entry in caplog.records if entry.getMessage() == "bug in a call"]
    assert [entry.exc_info is not None for entry in bugs] == [True]


@virtual_time
async def test_a_bug_before_the_answer_is_a_500_and_a_failed_call() -> None:
    stage = Stage()
    async with a_leg(stage.clock) as leg:

        def broken(port: object, observer: object) -> object:
            raise KeyError("vad")

        stage.registry.take(stage.call(leg, pipeline=broken))  # type: ignore[arg-type]
        (record,) = await over(stage)
    assert leg.verbs == ["ring", "reject 500 Server Internal Error"]
    assert (record.disposition, record.status) == (Disposition.FAILED, 500)


@virtual_time
async def test_a_call_that_can_no_longer_be_answered_has_failed() -> None:
    stage = Stage()
    async with a_leg(stage.clock, refuses_answer=CallFailed(408, "Request Timeout")) as leg:
        stage.take(leg)
        (record,) = await over(stage)
    assert record.disposition is Disposition.FAILED
    assert record.answered is None
    assert record.errors == ["CallFailed: 408 Request Timeout"]


@virtual_time
async def test_an_error_that_no_fallback_mends_ends_the_call() -> None:
    stage = Stage()
    async with a_leg(stage.clock) as leg:
        stage.take(leg, fails=EngineUnreachable("vllm", "connection refused"))
        (record,) = await over(stage)
    assert leg.verbs[-1] == "hang up: vllm: connection refused"
    assert record.ended_by is Party.SYSTEM


@virtual_time
async def test_keys_and_hold_reach_the_pipeline() -> None:
    stage = Stage()
    async with a_leg(stage.clock) as leg:
        call = stage.take(leg)
        await stage.clock.sleep(1)
        leg.emit(Digit("5"))
        leg.emit(Held())
        await stage.clock.sleep(90)
        assert call.state is State.HELD
        leg.emit(Resumed())
        leg.emit(Terminated(Party.CALLER, "BYE"))
        (record,) = await over(stage)
    assert stage.pipelines[0].told == ["digit 5", "held", "resumed"]
    assert record.errors == []


@virtual_time
async def test_an_event_out_of_order_changes_nothing_and_is_noted() -> None:
    stage = Stage()
    async with a_leg(stage.clock) as leg:
        call = stage.take(leg)
        await stage.clock.sleep(1)
        leg.emit(Resumed())
        await stage.clock.sleep(1)
        assert call.state is State.CONFIRMED
        leg.emit(Terminated(Party.CALLER, "BYE"))
        (record,) = await over(stage)
    assert record.errors == ["ProtocolError: a call that is confirmed knows no resume"]
    assert stage.pipelines[0].told == []


@virtual_time
async def test_a_call_without_rtp_ends() -> None:
    stage = Stage()
    async with a_leg(stage.clock) as leg:
        stage.take(leg)
        await stage.clock.sleep(30)
        leg.emit(MediaTimeout(20.0))
        (record,) = await over(stage)
    assert leg.verbs[-1] == "hang up: no RTP for 20 s"
    assert (record.ended_by, record.reason) == (Party.SYSTEM, "no RTP for 20 s")


@virtual_time
async def test_a_call_ends_after_its_longest_duration() -> None:
    stage = Stage(flavor=Flavor(name="desk", pipeline="echo", max_seconds=90))
    async with a_leg(stage.clock) as leg:
        stage.take(leg)
        (record,) = await over(stage)
    assert record.duration_seconds == pytest.approx(90, abs=0.1)
    assert (record.ended_by, record.reason) == (Party.SYSTEM, "maximum duration")


LONG_ENOUGH = Flavor(name="desk", max_seconds=90, farewell="That is all the time we have. Goodbye.")


@virtual_time
async def test_a_call_that_lasts_too_long_is_told_goodbye_and_ends_when_that_was_heard() -> None:
    stage = Stage(flavor=LONG_ENOUGH)
    async with a_leg(stage.clock) as leg:
        stage.take(leg)
        await stage.clock.sleep(91)
        (pipeline,) = stage.pipelines
        assert pipeline.told == [f"say {LONG_ENOUGH.farewell}"]
        assert leg.verbs == ["ring", "answer"]
        await stage.clock.sleep(2)
        pipeline.observer.act(*pipeline.then)
        (record,) = await over(stage)
    assert leg.verbs[-1] == "hang up: maximum duration"
    assert record.duration_seconds == pytest.approx(93, abs=0.1)
    assert (record.ended_by, record.reason) == (Party.SYSTEM, "maximum duration")


@virtual_time
async def test_a_caller_who_talks_over_the_farewell_does_not_prolong_the_call() -> None:
    stage = Stage(flavor=LONG_ENOUGH)
    async with a_leg(stage.clock) as leg:
        stage.take(leg)
        (record,) = await over(stage)
    assert record.duration_seconds == pytest.approx(90 + FAREWELL_SECONDS, abs=0.1)
    assert (record.ended_by, record.reason) == (Party.SYSTEM, "maximum duration")


# ------------------------------------------------------------------ what engines ask for


@virtual_time
async def test_the_flavor_hangs_up() -> None:
    stage = Stage()
    async with a_leg(stage.clock) as leg:
        stage.take(leg)
        await stage.clock.sleep(5)
        stage.pipelines[0].observer.act(HangUp("completed"))
        (record,) = await over(stage)
    assert leg.verbs[-1] == "hang up: completed"
    assert (record.ended_by, record.reason) == (Party.AGENT, "completed")


@virtual_time
async def test_actions_happen_in_order() -> None:
    stage = Stage()
    async with a_leg(stage.clock) as leg:
        stage.take(leg)
        await stage.clock.sleep(5)
        for action in (SendDtmf("12#"), Transfer("2000"), HangUp()):
            stage.pipelines[0].observer.act(action)
        (record,) = await over(stage)
    assert leg.verbs[2:] == ["dtmf 12#", "transfer 2000", "hang up: transferred"]
    assert (record.ended_by, record.reason) == (Party.AGENT, "transferred")


@virtual_time
async def test_a_refused_transfer_is_told_to_the_caller_and_the_call_goes_on() -> None:
    stage = Stage(flavor=Flavor(name="desk", pipeline="echo", transfer_refused="They do not answer."))
    async with a_leg(stage.clock, refuses_transfer=CallFailed(603, "Decline")) as leg:
        call = stage.take(leg)
        await stage.clock.sleep(5)
        stage.pipelines[0].observer.act(Transfer("+4930999"))
        await stage.clock.sleep(5)
        assert call.state is State.CONFIRMED
        leg.emit(Terminated(Party.CALLER, "BYE"))
        (record,) = await over(stage)
    assert leg.verbs[-1] == "transfer +4930999"
    assert stage.pipelines[0].told == ["say They do not answer."]
    assert record.errors == ["CallFailed: 603 Decline"]


# ------------------------------------------------------------------ stopping


@virtual_time
async def test_draining_lets_calls_end_and_takes_no_new_ones() -> None:
    stage = Stage()
    async with a_leg(stage.clock) as first, a_leg(stage.clock) as second:
        stage.take(first)
        await stage.clock.sleep(1)
        draining = asyncio.create_task(stage.registry.drain(30))
        await stage.clock.sleep(1)
        stage.take(second)
        await stage.clock.sleep(1)
        assert second.verbs == ["reject 503 Service Unavailable after 7"]
        first.emit(Terminated(Party.CALLER, "BYE"))
        await draining
        assert stage.clock.now() < 4
    assert [record.reason for record in stage.monitor.records] == ["shutting down", "BYE"]


@virtual_time
async def test_draining_hangs_up_what_lasts_too_long() -> None:
    stage = Stage()
    async with a_leg(stage.clock) as leg:
        stage.take(leg)
        await stage.clock.sleep(1)
        await stage.registry.drain(30)
    assert leg.verbs[-1] == "hang up: shutting down"
    assert 30 < stage.clock.now() < 32
    assert stage.store.records[0].ended_by is Party.SYSTEM


@virtual_time
async def test_a_far_end_that_never_lets_go_does_not_stop_the_process_from_stopping() -> None:
    stage = Stage()
    async with a_leg(stage.clock) as leg:
        stage.take(leg)
        await stage.clock.sleep(1)
        leg.hang_up = lambda reason="": stage.clock.sleep(1e6)  # type: ignore[method-assign]
        await stage.registry.stop()
    assert stage.clock.now() < 4
    assert len(stage.store.records) == 1


# ------------------------------------------------------------------ records


@virtual_time
async def test_a_record_that_cannot_be_written_is_logged_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(store=FakeCdrStore(full=True))
    async with a_leg(stage.clock) as leg:
        stage.take(leg)
        await stage.clock.sleep(1)
        leg.emit(Terminated(Party.CALLER, "BYE"))
        (record,) = await over(stage)
    assert record.errors == ["RecordError: no space left on device"]
    assert [entry for entry in caplog.records if entry.levelno == logging.ERROR and entry.getMessage() == "call error"]


@virtual_time
async def test_numbers_are_redacted_where_wanted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    stage = Stage()
    stage.records = stage.records.model_copy(update={"redact_numbers": True})
    async with a_leg(stage.clock) as leg:
        stage.take(leg)
        await stage.clock.sleep(1)
        leg.emit(Terminated(Party.CALLER, "BYE"))
        (record,) = await over(stage)
    assert record.calling == "***56"
    assert "4930123456" not in record.json_line()
    assert not [entry for entry in caplog.records if "4930123456" in str(vars(entry))]
