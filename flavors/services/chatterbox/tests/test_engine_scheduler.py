"""Who is served next, on machines of any speed: the micro model computes, a clock of our own says how long it took."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tests import micro
from tests.micro import torch

SENTENCE = "We open at nine on Saturday, and close at five in the afternoon."
PATIENCE = 120.0
"""Seconds after which a test has waited in vain."""
MARGIN = 13
"""Tokens that are known when the first chunk is made."""


@dataclass
class Machine:
    """A GPU that takes so many seconds for a step and for a rendering, whatever takes part in it.

    What is in `fails` is raised by the step, rendering, join or clearing of that number; what is in `meanwhile` is
    called as it begins, and as a rendering ends (`rendered`).
    """

    step: float
    render: float
    now: float = 0.0
    fails: dict[tuple[str, int], Exception] = field(default_factory=dict)
    meanwhile: dict[tuple[str, int], Callable[[], None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from chatterbox_service.scheduler import Scheduler, Speech
        from chatterbox_service.tokens import Stepper
        from chatterbox_service.vocoder import RATE, Timbre, Vocoder

        machine, model = self, micro.model("turbo")
        self.coming: list[tuple[float, Speech]] = []
        self.made: list[Speech] = []
        """All there were: streams are told apart by their addresses."""
        self.dry: dict[int, float] = {}
        self.silence: dict[int, float] = {}
        """Seconds in which a listener who had heard something heard nothing, by stream."""
        self.first: dict[int, float] = {}
        """When a listener heard the first audio."""
        counts = {"step": 0, "render": 0, "rendered": 0, "join": 0, "clear": 0}

        def took(what: str, seconds: float) -> None:
            counts[what] += 1
            if error := machine.fails.get((what, counts[what])):
                raise error
            if event := machine.meanwhile.get((what, counts[what])):
                event()
            machine.now += seconds
            while machine.coming and machine.coming[0][0] <= machine.now:
                machine.scheduler.submit(machine.coming.pop(0)[1])

        class TimedStepper(Stepper):
            def step(self) -> None:
                took("step", machine.step)
                super().step()

            def join(self, streams: Sequence[Any]) -> None:
                took("join", machine.step)
                super().join(streams)

            def clear(self) -> None:
                took("clear", 0)
                super().clear()

        class TimedVocoder(Vocoder):
            def render(self, jobs: Sequence[Any], *pause: Callable[[], None]) -> list[Any]:
                took("render", machine.render)
                rendered = super().render(jobs, *pause)
                took("rendered", 0)
                for job, audio in zip(jobs, rendered, strict=True):
                    machine.hear(id(job.stream), len(audio) / RATE)
                return rendered

        self.model = model
        self.stepper = TimedStepper(model.t3, model.kind.sampling)
        self.vocoder = TimedVocoder(model.s3gen, model.kind.flow_steps)
        self.timbre = Timbre.of(model.builtin.gen, 2.0)
        self.prefix = self.stepper.prefix(model.t3_conditioning(model.builtin, None))
        self.scheduler = Scheduler(self.stepper, self.vocoder, lambda: self.now)
        self.ended: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()

    def hear(self, stream: int, seconds: float) -> None:
        if stream not in self.first:
            self.first[stream], self.dry[stream], self.silence[stream] = self.now, self.now, 0.0
        self.silence[stream] += max(0.0, self.now - self.dry[stream])
        self.dry[stream] = max(self.now, self.dry[stream]) + seconds

    def speech(self, seed: int, tokens: int = 100) -> Any:
        from chatterbox_service.engine import SpeechError
        from chatterbox_service.scheduler import Speech
        from chatterbox_service.tokens import TokenStream

        def deliver(item: Any) -> None:
            if item is None or isinstance(item, SpeechError):
                self.ended.put((seed, item))

        text, random = self.model.text_tokens(SENTENCE, None), np.random.default_rng(seed)
        stream = TokenStream(text, self.prefix, random, 0.8, minimum=tokens, maximum=tokens, repeats=1000)
        made = Speech(stream, self.vocoder.open(self.timbre, seed), (), lambda samples, last: samples, deliver)
        self.made.append(made)
        return made

    def speak(self, speeches: Sequence[Any], every: float = 0.0) -> dict[int, Any]:
        """Speak them all, of which one comes every so many seconds; returns what went wrong with each, or None."""
        self.coming = [(number * every, speech) for number, speech in enumerate(speeches)]
        while self.coming and self.coming[0][0] <= self.now:
            self.scheduler.submit(self.coming.pop(0)[1])
        self.scheduler.start()
        return dict(self.ended.get(timeout=PATIENCE) for _ in speeches)


@pytest.mark.parametrize(("step", "render"), [(0.004, 0.02), (0.008, 0.09), (0.008, 0.15), (0.015, 0.2)])
def test_who_is_alone_hears_no_silence_that_the_machine_could_have_avoided(step: float, render: float) -> None:
    machine = Machine(step, render)
    try:
        assert machine.speak([machine.speech(1, 150)]) == {1: None}
        begun = machine.now
        machine.scheduler.submit(machine.speech(2, 150))
        assert machine.ended.get(timeout=PATIENCE) == (2, None)
    finally:
        machine.scheduler.stop()
    (unknown, known), (first, second) = machine.silence.values(), machine.first.values()
    # Ten tokens, of which eight frames are held back, last for 0.24 s; meanwhile the next fifteen are needed.
    short = max(0.0, 15 * step + render - 0.24)
    assert unknown == pytest.approx(short, abs=2 * step)
    assert first == pytest.approx(MARGIN * step + render, abs=2 * step)
    # Once it is known what a rendering takes, the first chunk waits for as long as the second would be missed.
    assert known <= 2 * step
    assert second - begun == pytest.approx(MARGIN * step + render + short, abs=3 * step)


@pytest.mark.parametrize("every", [0.0, 0.37, 1.0])
def test_many_share_a_machine_that_is_fast_enough_without_long_silences(every: float) -> None:
    machine = Machine(0.008, 0.09)
    try:
        assert machine.speak([machine.speech(n) for n in range(6)], every) == dict.fromkeys(range(6))
    finally:
        machine.scheduler.stop()
    assert max(machine.silence.values()) < 0.25
    assert sum(machine.silence.values()) / 6 < 0.1


def test_a_machine_that_is_too_slow_still_speaks_all() -> None:
    machine = Machine(0.05, 0.5)
    try:
        assert machine.speak([machine.speech(n, 60) for n in range(4)], 0.2) == dict.fromkeys(range(4))
    finally:
        machine.scheduler.stop()
    assert len(machine.first) == 4


def test_a_chunk_that_is_made_for_nobody_is_broken_off_for_the_next_stream() -> None:
    from chatterbox_service.vocoder import FRAME, FRAMES_PER_TOKEN, HELD, RATE

    machine = Machine(0.008, 0.09)
    dropped, comes = machine.speech(1, 500), machine.speech(2)

    def gone() -> None:
        machine.scheduler.cancel(dropped)
        machine.scheduler.submit(comes)

    machine.meanwhile[("render", 2)] = gone
    try:
        machine.scheduler.submit(dropped)
        machine.scheduler.start()
        assert machine.ended.get(timeout=PATIENCE) == (2, None)
        assert machine.scheduler.taken == machine.stepper.rows == 0
    finally:
        machine.scheduler.stop()
    made = dropped.vocoder
    assert 0 < dropped.made == (made.rendered * FRAMES_PER_TOKEN - HELD) * FRAME / RATE
    assert made.mel.shape[1] <= made.rendered * FRAMES_PER_TOKEN
    assert comes.made == pytest.approx(100 / 25)


def test_who_goes_while_others_are_rendered_for_leaves_at_once() -> None:
    machine = Machine(0.008, 0.09)
    stays, goes = machine.speech(1), machine.speech(2)
    taken: list[tuple[int, int]] = []

    def note() -> None:
        taken.append((machine.scheduler.taken, len(machine.stepper.streams)))

    def gone() -> None:
        note()
        machine.scheduler.cancel(goes)

    machine.meanwhile[("render", 2)] = gone
    machine.meanwhile[("rendered", 2)] = note
    try:
        machine.scheduler.submit(goes)
        machine.scheduler.submit(stays)
        machine.scheduler.start()
        assert machine.ended.get(timeout=PATIENCE) == (1, None)
    finally:
        machine.scheduler.stop()
    assert taken == [(2, 2), (1, 1)]
    assert stays.made == pytest.approx(100 / 25)


NO_ROOM = torch.OutOfMemoryError("Tried to allocate 2 GiB")


def test_where_there_is_no_room_to_join_those_who_speak_speak_on() -> None:
    machine = Machine(0.008, 0.09, fails={("join", 2): NO_ROOM})
    try:
        ends = machine.speak([machine.speech(n) for n in range(3)], 0.2)
    finally:
        machine.scheduler.stop()
    assert ends[0] is None
    assert "no room on the device" in str(ends[1])
    assert ends[2] is None


def test_where_there_is_no_room_for_the_next_token_the_latest_makes_some() -> None:
    machine = Machine(0.008, 0.09, fails={("step", 60): NO_ROOM})
    try:
        ends = machine.speak([machine.speech(n) for n in range(3)], 0.1)
    finally:
        machine.scheduler.stop()
    assert [ends[0], ends[1]] == [None, None]
    assert "no room on the device" in str(ends[2])


def test_where_there_is_no_room_for_a_chunk_others_speak_on() -> None:
    machine = Machine(0.008, 0.09, fails={("render", 2): NO_ROOM})
    try:
        ends = machine.speak([machine.speech(n) for n in range(2)], 0.3)
    finally:
        machine.scheduler.stop()
    assert "no room on the device" in str(ends[0])
    assert ends[1] is None


def test_a_round_that_fails_costs_its_streams_and_no_others() -> None:
    machine = Machine(0.008, 0.09, fails={("render", 2): RuntimeError("shapes do not match")})
    try:
        assert "shapes do not match" in str(machine.speak([machine.speech(1)])[1])
        machine.scheduler.submit(machine.speech(2))
        assert machine.ended.get(timeout=PATIENCE) == (2, None)
        assert machine.scheduler.active == machine.stepper.rows == 0
    finally:
        machine.scheduler.stop()


@pytest.mark.parametrize(
    "fails",
    [
        {("step", 20): RuntimeError("CUDA error: device-side assert triggered")},
        {("step", 20): RuntimeError("a bug"), ("clear", 1): RuntimeError("CUDA error: an illegal memory access")},
    ],
    ids=["at once", "when it is cleared up"],
)
def test_who_speaks_on_a_device_that_fails_is_told_and_nobody_waits_for_it(fails: Any) -> None:
    from chatterbox_service.engine import SpeechError

    machine = Machine(0.008, 0.09, fails=fails)
    assert str(fails[("step", 20)]) in str(machine.speak([machine.speech(1)])[1])
    assert machine.scheduler.join().startswith("the device failed")
    with pytest.raises(SpeechError, match="the device failed"):
        machine.scheduler.submit(machine.speech(2))
    machine.scheduler.stop()
