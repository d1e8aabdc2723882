"""One thread that speaks all streams: it decides, round by round, who is served next.

A round either gives every stream its next speech token, or turns a chunk of some streams' tokens into audio. What the
stream needs that would run dry first decides; all others that can use the same computation take part in it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic

import numpy as np

from chatterbox_service.engine import Samples, SpeechError
from chatterbox_service.tokens import Stepper, TokenStream
from chatterbox_service.vocoder import RATE, SEGMENT, Job, Vocoder, VocoderStream, last_boundary, next_boundary

log = logging.getLogger(__name__)

FIRST_AUDIO_SECONDS = 0.2
"""So long after its request a stream that has not been heard yet counts as running dry: until then others go first."""

_LARGEST_CHUNK = SEGMENT
_MARGIN = 0.6
"""Share of a stream's lead within which its next chunk shall be ready."""
_MOST_FRAMES = 4000
"""Mel frames of all windows that are rendered in one go: bounds memory, and how long everybody else waits."""
_SMOOTHING = 0.2
_FINISHERS = 4
"""Threads that finish: they wait for the watermark's network most of the time."""

Finish = Callable[[Samples, bool], Samples]
"""What is done to the audio of a stream before it is delivered: (samples, whether they are the last)."""

Deliver = Callable[[Samples | SpeechError | None], None]
"""Takes audio as it comes, then `None`, or why there is no more. Called in a thread of the scheduler's."""


@dataclass(eq=False, slots=True)
class Speech:
    """One request on its way."""

    tokens: TokenStream
    vocoder: VocoderStream
    closing: tuple[int, ...]
    finish: Finish
    deliver: Deliver
    submitted: float = field(default_factory=monotonic)
    heard_from: float | None = None
    """When its first audio was made."""
    made: float = 0.0
    """Seconds of audio."""
    target: int = 0
    """It is rendered once it has so many tokens."""
    cancelled: bool = False
    rendered: deque[tuple[Samples | SpeechError, bool]] = field(default_factory=deque)
    """Audio that is yet to be finished, or why there is none, and whether that is the last."""
    finishing: bool = False
    """Whether a thread is about it."""

    @property
    def dry_at(self) -> float:
        """When whoever listens runs out of audio."""
        if self.heard_from is None:
            return self.submitted + FIRST_AUDIO_SECONDS
        return self.heard_from + self.made

    def take_tokens(self) -> None:
        """Pass on what T3 said."""
        new = self.tokens.tokens[len(self.vocoder.tokens) :]
        self.vocoder.tokens += new
        if self.tokens.ended:
            self.vocoder.tokens += self.closing
            self.closing = ()


class Scheduler:
    """Owns stepper and vocoder. `submit` and `cancel` are for any thread, as is `active`."""

    def __init__(self, stepper: Stepper, vocoder: Vocoder) -> None:
        self._stepper = stepper
        self._vocoder = vocoder
        self._lock = threading.Condition()
        self._arrived: deque[Speech] = deque()
        self._speeches: list[Speech] = []
        self._stopping = False
        self._step_seconds = 0.0
        self._render_seconds = 0.0
        self._thread = threading.Thread(target=self._run, name="chatterbox", daemon=True)
        self._finishers = ThreadPoolExecutor(_FINISHERS, thread_name_prefix="chatterbox-finish")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Cut all streams off and end. Idempotent; waits for the round that is under way."""
        with self._lock:
            self._stopping = True
            self._lock.notify()
        if self._thread.is_alive():
            self._thread.join()
        self._finishers.shutdown()

    @property
    def active(self) -> int:
        with self._lock:
            return sum(not speech.cancelled for speech in (*self._arrived, *self._speeches))

    @property
    def speeches(self) -> Sequence[Speech]:
        """Those under way, for an estimate of when they end."""
        with self._lock:
            return [*self._arrived, *self._speeches]

    def submit(self, speech: Speech) -> None:
        with self._lock:
            if self._stopping:
                raise SpeechError("the engine is being stopped")
            self._arrived.append(speech)
            self._lock.notify()

    def cancel(self, speech: Speech) -> None:
        """Its place is free before the next step. Nothing where it has ended."""
        with self._lock:
            speech.cancelled = True
            self._lock.notify()

    # --- the thread that computes

    def _run(self) -> None:
        while self._waited():
            try:
                self._round()
            except Exception as error:  # The boundary between streams: the next ones shall be spoken.
                log.exception("a round failed")
                self._fail(SpeechError(f"the engine failed: {error}"))
        self._fail(SpeechError("the engine is being stopped"))

    def _waited(self) -> bool:
        """Returns when there is somebody to serve; False to stop."""
        with self._lock:
            while not (self._arrived or self._speeches or self._stopping):
                self._lock.wait()
            return not self._stopping

    def _round(self) -> None:
        with self._lock:
            arrived = [speech for speech in self._arrived if not speech.cancelled]
            self._arrived.clear()
            gone = [speech for speech in self._speeches if speech.cancelled]
            self._speeches = [*(speech for speech in self._speeches if not speech.cancelled), *arrived]
        for speech in gone:
            self._stepper.leave(speech.tokens)
        if arrived:
            self._stepper.join([speech.tokens for speech in arrived])
            for speech in arrived:
                speech.take_tokens()
        for speech in [speech for speech in self._speeches if speech.tokens.ended and not speech.vocoder.tokens]:
            self._end(speech, np.empty(0, np.float32))
        if not self._speeches:
            return
        now = monotonic()
        urgent = min(self._speeches, key=lambda speech: speech.dry_at)
        if job := self._job(urgent, now):
            self._render(urgent, job, now)
        else:
            self._step(now)

    def _step(self, began: float) -> None:
        speaking = [speech for speech in self._speeches if not speech.tokens.ended]
        self._stepper.step()
        for speech in speaking:
            speech.take_tokens()
        self._step_seconds = _smoothed(self._step_seconds, monotonic() - began)

    def _job(self, speech: Speech, now: float) -> Job | None:
        """What of a stream shall be rendered, if anything."""
        ended = speech.tokens.ended
        job = speech.vocoder.job(ended)
        if job is None or ended or job.upto >= speech.target:
            return job
        # It has fewer tokens than was hoped for: better a small chunk in time.
        lead = speech.dry_at - now
        in_time = speech.heard_from is not None and self._render_seconds < lead < 2 * self._render_seconds
        return job if in_time else None

    def _render(self, urgent: Speech, job: Job, began: float) -> None:
        """Render the most urgent stream, and others whose windows are not much longer, the next to run dry first."""
        batch = {urgent: job}
        longest = 2 * job.frames
        frames = job.frames
        for speech in sorted(self._speeches, key=lambda speech: speech.dry_at):
            if speech is urgent or not (other := self._job(speech, began)) or other.frames > longest:
                continue
            if (frames := frames + other.frames) > _MOST_FRAMES:
                break
            batch[speech] = other
        audio = self._vocoder.render(list(batch.values()))
        now = monotonic()
        self._render_seconds = _smoothed(self._render_seconds, now - began)
        for (speech, job), samples in zip(batch.items(), audio, strict=True):
            if speech.heard_from is None:
                speech.heard_from = now
            speech.made += len(samples) / RATE
            speech.target = self._target(speech, now)
            if job.last:
                self._end(speech, samples.numpy())
            else:
                self._hand_over(speech, samples.numpy(), last=False)

    def _end(self, speech: Speech, samples: Samples) -> None:
        with self._lock:
            self._speeches.remove(speech)
        self._hand_over(speech, samples, last=True)

    def _target(self, speech: Speech, now: float) -> int:
        """How far the next chunk shall reach: as far as the lead allows, for what is rendered at once costs less.

        Where even the smallest chunk would be late, only large ones, for all, bring the machine back into real time.
        """
        rendered = speech.vocoder.rendered
        time = _MARGIN * (speech.dry_at - now) - self._render_seconds
        more = int(time / self._step_seconds) if time > 0 and self._step_seconds else _LARGEST_CHUNK
        return max(next_boundary(rendered), last_boundary(rendered + min(more, _LARGEST_CHUNK)))

    def _fail(self, error: SpeechError) -> None:
        with self._lock:
            lost = [*self._arrived, *self._speeches]
            self._arrived.clear()
            self._speeches = []
        self._stepper.clear()
        for speech in lost:
            self._hand_over(speech, error, last=True)

    # --- the threads that finish

    def _hand_over(self, speech: Speech, audio: Samples | SpeechError, *, last: bool) -> None:
        with self._lock:
            speech.rendered.append((audio, last))
            if speech.finishing:
                return
            speech.finishing = True
        self._finishers.submit(self._finish, speech)

    def _finish(self, speech: Speech) -> None:
        """Finish and deliver what there is of a stream: one thread at a time, in order."""
        while True:
            with self._lock:
                if speech.cancelled or not speech.rendered:
                    speech.finishing = False
                    return
                audio, last = speech.rendered.popleft()
            try:
                if isinstance(audio, SpeechError):
                    raise audio
                audio = speech.finish(audio, last)
            except SpeechError as error:
                speech.deliver(error)
                continue
            except Exception as error:  # The boundary between streams: the others shall be heard.
                log.exception("a stream could not be finished")
                self.cancel(speech)
                speech.deliver(SpeechError(f"the engine failed: {error}"))
                return
            if len(audio):
                speech.deliver(audio)
            if last:
                speech.deliver(None)


def _smoothed(average: float, seconds: float) -> float:
    return seconds if average == 0 else average + _SMOOTHING * (seconds - average)
