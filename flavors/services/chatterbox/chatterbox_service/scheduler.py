"""One thread that speaks all streams: it decides, round by round, who is served next.

A round either gives every stream its next speech token, or turns a chunk of some streams' tokens into audio: when a
listener would soon run dry, or else not before there are no more tokens to come. All streams that can use the same
computation take part in it, and the longer it can wait, the more these are.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic

import numpy as np

from chatterbox_service.device import free_unused, out_of_memory, unusable
from chatterbox_service.engine import Samples, SpeechError
from chatterbox_service.tokens import TOKENS_PER_SECOND, Stepper, TokenStream
from chatterbox_service.vocoder import (
    FIRST_CELL,
    FIRST_CHUNK_SECONDS,
    LOOK_AHEAD,
    MOST_FRAMES,
    RATE,
    SECOND_CELL,
    SEGMENT,
    Job,
    Vocoder,
    VocoderStream,
)

log = logging.getLogger(__name__)

FIRST_AUDIO_SECONDS = 0.2
"""So long after its request a stream that has not been heard yet counts as dry: until then others are more urgent."""

_LEAD_RENDERINGS, _LEAD_SECONDS = 2.0, 0.1
"""A chunk is begun once its listener has only so many renderings' time, and so many seconds, to hear yet."""
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
    submitted: float = 0.0
    """When; the scheduler notes it."""
    heard_from: float | None = None
    """When its first audio was made."""
    made: float = 0.0
    """Seconds of audio."""
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


class _Abandoned(Exception):
    """Nobody is left of those who were rendered for."""


class Scheduler:
    """Owns stepper and vocoder. `submit`, `cancel`, `join` and `stop` are for any thread, as are the properties.

    `now`: seconds of a monotonic clock.
    """

    def __init__(self, stepper: Stepper, vocoder: Vocoder, now: Callable[[], float] = monotonic) -> None:
        self._stepper = stepper
        self._vocoder = vocoder
        self._now = now
        self._lock = threading.Condition()
        self._arrived: deque[Speech] = deque()
        self._speeches: list[Speech] = []
        self._stopping = False
        self._lost = ""
        self._step_seconds = 0.0
        self._render_seconds = 0.0
        self._render_share = 0.0
        """Of a rendering, for each stream in it."""
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

    def join(self) -> str:
        """Wait until it ends: "" where it was stopped, else why it can never speak again."""
        self._thread.join()
        return self._lost

    @property
    def active(self) -> int:
        with self._lock:
            return sum(not speech.cancelled for speech in (*self._arrived, *self._speeches))

    @property
    def taken(self) -> int:
        """Places in the batch: that of a cancelled stream until a step ends, or a layer of what is rendered."""
        with self._lock:
            return len(self._speeches)

    @property
    def speeches(self) -> Sequence[Speech]:
        """Those under way, for an estimate of when they end."""
        with self._lock:
            return [*self._arrived, *self._speeches]

    def submit(self, speech: Speech) -> None:
        with self._lock:
            if self._stopping:
                raise SpeechError(self._lost or "the engine is being stopped")
            speech.submitted = self._now()
            self._arrived.append(speech)
            self._lock.notify()

    def cancel(self, speech: Speech) -> None:
        """Its place is free before the next step, and while something is rendered, before its next layer.

        What is rendered for nobody else is broken off. Nothing where the stream has ended.
        """
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
                self._recover(error)
        self._lose([*self._arrived, *self._speeches], SpeechError(self._lost or "the engine is being stopped"))

    def _recover(self, error: Exception) -> None:
        """Give up as few streams as the error allows."""
        with self._lock:
            speeches = [*self._speeches]
        if out_of_memory(error):
            # Those that were to join have not been heard yet; where all have joined, the latest makes room.
            self._make_room([speech for speech in speeches if not speech.tokens.begun] or speeches[-1:], error)
            return
        self._lose(speeches, SpeechError(f"the engine failed: {error}"))
        lost = unusable(error)
        try:
            self._stepper.clear()
        except RuntimeError:
            log.exception("what the streams had cannot be freed")
            lost = True
        if lost:
            with self._lock:
                self._lost, self._stopping = f"the device failed: {error}", True

    def _make_room(self, speeches: Sequence[Speech], error: Exception) -> None:
        self._lose(speeches, SpeechError(f"no room on the device: {error}"))
        for speech in speeches:
            self._stepper.leave(speech.tokens)
        free_unused(self._stepper.device)

    def _waited(self) -> bool:
        """Returns when there is somebody to serve; False to stop."""
        with self._lock:
            while not (self._arrived or self._speeches or self._stopping):
                self._lock.wait()
            return not self._stopping

    def _round(self) -> None:
        self._part()
        with self._lock:
            arrived = [speech for speech in self._arrived if not speech.cancelled]
            self._arrived.clear()
            self._speeches += arrived
        if arrived:
            self._stepper.join([speech.tokens for speech in arrived])
            for speech in arrived:
                speech.take_tokens()
        for speech in [speech for speech in self._speeches if speech.tokens.ended and not speech.vocoder.tokens]:
            self._end(speech, np.empty(0, np.float32))
        if not self._speeches:
            return
        now = self._now()
        if batch := self._due(now):
            self._render(batch, now)
        else:
            self._step(now)

    def _part(self) -> None:
        """Free the places of those who have gone."""
        gone = [speech for speech in self._speeches if speech.cancelled]
        if not gone:  # As a rendering finds hundreds of times: without the lock, for nobody else changes the list.
            return
        with self._lock:
            self._speeches = [speech for speech in self._speeches if speech not in gone]
        for speech in gone:
            self._stepper.leave(speech.tokens)

    def _due(self, now: float) -> dict[Speech, Job]:
        """What is to be rendered now, nothing where there is time for another token.

        Once it cannot wait for one stream, others with a chunk take part whose windows are not much longer, the next
        to run dry first.
        """
        jobs = {
            speech: job
            for speech in sorted(self._speeches, key=lambda speech: speech.dry_at)
            if (job := speech.vocoder.job(speech.tokens.ended))
        }
        speaking = any(not speech.tokens.ended for speech in self._speeches)
        if speaking and not any(self._cannot_wait(speech, job, now) for speech, job in jobs.items()):
            return {}
        batch: dict[Speech, Job] = {}
        longest = frames = 0
        for speech, job in jobs.items():
            if batch and (job.frames > longest or frames + job.frames > MOST_FRAMES):
                continue
            longest = longest or 2 * job.frames
            frames += job.frames
            batch[speech] = job
        return batch

    def _cannot_wait(self, speech: Speech, job: Job, now: float) -> bool:
        if speech.heard_from is None:
            return job.last or job.upto > FIRST_CELL or self._next_in_time(speech)
        soon = now + _LEAD_RENDERINGS * self._render_seconds + _LEAD_SECONDS
        whole = speech.tokens.ended or job.upto - speech.vocoder.rendered >= self._least_chunk()
        return whole and speech.dry_at < soon

    def _next_in_time(self, speech: Speech) -> bool:
        """Whether a first chunk may go, as the second one will be there when it was heard.

        On a slow machine the first waits for it: better a little later than with a pause in the midst of a word.
        """
        missing = SECOND_CELL + LOOK_AHEAD - len(speech.vocoder.tokens)
        return missing * self._step_seconds + self._render_seconds <= FIRST_CHUNK_SECONDS

    def _least_chunk(self) -> float:
        """Tokens of a chunk that lasts until the next, though all others are rendered before that and after it.

        A machine that makes smaller ones falls back, however fast it is: what a rendering costs by itself is paid too
        often.
        """
        spare = 1 / TOKENS_PER_SECOND - self._step_seconds
        if spare <= 0:
            return SEGMENT
        return min(SEGMENT, (2 * len(self._speeches) - 1) * self._render_share / spare)

    def _step(self, began: float) -> None:
        speaking = [speech for speech in self._speeches if not speech.tokens.ended]
        self._stepper.step()
        for speech in speaking:
            speech.take_tokens()
        self._step_seconds = _smoothed(self._step_seconds, self._now() - began)

    def _render(self, batch: Mapping[Speech, Job], began: float) -> None:
        def pause() -> None:
            self._part()
            if all(speech.cancelled for speech in batch):
                raise _Abandoned

        try:
            audio = self._vocoder.render([*batch.values()], pause)
        except _Abandoned:
            return
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            self._make_room([*batch], error)  # What the vocoder had begun cannot be taken back.
            return
        now = self._now()
        self._render_seconds = _smoothed(self._render_seconds, now - began)
        self._render_share = _smoothed(self._render_share, (now - began) / len(batch))
        for (speech, job), samples in zip(batch.items(), audio, strict=True):
            if speech.cancelled:
                continue
            if speech.heard_from is None:
                speech.heard_from = now
            speech.made += len(samples) / RATE
            if job.last:
                self._end(speech, samples.numpy())
            else:
                self._hand_over(speech, samples.numpy(), last=False)

    def _end(self, speech: Speech, samples: Samples) -> None:
        with self._lock:
            self._speeches.remove(speech)
        self._hand_over(speech, samples, last=True)

    def _lose(self, speeches: Sequence[Speech], error: SpeechError) -> None:
        """Tell those who listen why. Their places in the stepper are the caller's affair."""
        with self._lock:
            self._arrived = deque(speech for speech in self._arrived if speech not in speeches)
            self._speeches = [speech for speech in self._speeches if speech not in speeches]
        for speech in speeches:
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
