"""How many streams stay faster than real time on this machine: measured, not believed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from chatterbox_service.device import free_unused, out_of_memory
from chatterbox_service.models import Model
from chatterbox_service.tokens import SPEECH_TOKENS, TOKENS_PER_SECOND, Prefix, Stepper, TokenStream
from chatterbox_service.vocoder import CELL, MOST_FRAMES, Job, Timbre, Vocoder
from chatterbox_service.watermark import Watermark

log = logging.getLogger(__name__)

MOST_STREAMS = 256
_LOAD = 0.75
"""Share of the time that streams may take: the rest is for those that join, and for what else the machine does."""
_STEPS = 4
_LONGEST = 1024
"""Positions of the cache that a stream may come to have: the voice, a text and 20 seconds of speech."""
_MEMORY = 0.8
"""Share of the free memory that the cache may take, while it grows beside the smaller one before it."""


def measure(
    model: Model, stepper: Stepper, vocoder: Vocoder, prefix: Prefix, timbre: Timbre, text: Tensor, most: int
) -> int:
    """The most streams, up to `most`, that together take less than three quarters of real time; at least 1.

    Twice as many at a time speak `text` until they take more, each with five seconds behind it and chunks of one. On a
    GPU no more than it has memory for. Warms everything up on the way.
    """
    most = min(most, _room(stepper))
    marking = _watermark_load(model)
    capacity, before = 1, (0, 0.0)
    _load(stepper, vocoder, prefix, timbre, text, 1)  # The first time is always the slowest.
    streams = 1
    while streams <= most:
        try:
            load = _load(stepper, vocoder, prefix, timbre, text, streams)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            stepper.clear()
            log.info("measured streams=%d: not enough memory", streams)
            break
        if stepper.device.type == "cpu":
            load += streams * marking
        log.info("measured streams=%d load=%.2f", streams, load)
        if streams == 1 and load > 1:
            log.warning("a second of speech takes %.1f s here: who listens will hear pauses", load)
        if load > _LOAD:
            had, light = before
            between = had + (streams - had) * max(0.0, _LOAD - light) / (load - light)
            capacity = max(1, int(between))
            break
        capacity, before = streams, (streams, load)
        streams *= 2
    free_unused(stepper.device)
    return max(1, min(capacity, int(_LOAD / marking)))


def _room(stepper: Stepper) -> int:
    """Streams that the device has memory for."""
    if stepper.device.type != "cuda":
        return MOST_STREAMS
    free, _ = torch.cuda.mem_get_info(stepper.device)
    return int(_MEMORY * free / (2 * _LONGEST * stepper.position_bytes))


def _load(stepper: Stepper, vocoder: Vocoder, prefix: Prefix, timbre: Timbre, text: Tensor, streams: int) -> float:
    """Seconds of work for each second that so many streams speak."""
    random = np.random.default_rng(0)
    speaking = [
        TokenStream(text, prefix, random, temperature=0.8, minimum=10**6, maximum=10**6, repeats=10**6)
        for _ in range(streams)
    ]
    stepper.join(speaking)
    stepper.step()
    step = _seconds(stepper, lambda: [stepper.step() for _ in range(_STEPS)]) / _STEPS
    stepper.clear()
    voices = [vocoder.open(timbre, seed) for seed in range(streams)]
    spoken = 5 * TOKENS_PER_SECOND
    for voice in voices:
        voice.tokens = random.integers(SPEECH_TOKENS, size=spoken + 2 * CELL).tolist()
    portion = max(1, MOST_FRAMES // Job(voices[0], spoken + CELL, last=False).frames)

    def render(upto: int) -> None:
        for first in range(0, streams, portion):
            vocoder.render([Job(voice, upto, last=False) for voice in voices[first : first + portion]])

    render(spoken)
    chunk = _seconds(stepper, lambda: render(spoken + CELL))
    return TOKENS_PER_SECOND * step + chunk * TOKENS_PER_SECOND / CELL


def _watermark_load(model: Model) -> float:
    """Seconds of work for each second of audio that is marked."""
    mark = Watermark(model.marker, model.rate)
    second = np.random.default_rng(0).normal(scale=0.1, size=model.rate).astype(np.float32)
    mark(second, last=False)
    began = perf_counter()
    mark(second, last=False)
    return perf_counter() - began


def _seconds(stepper: Stepper, work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    if stepper.device.type == "cuda":
        torch.cuda.synchronize()
    return perf_counter() - began
