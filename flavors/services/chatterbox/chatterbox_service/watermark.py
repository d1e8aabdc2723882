"""The watermark of every Chatterbox (Perth), on audio that comes in chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from chatterbox_service.engine import Samples

_CONTEXT = 0.4
"""Seconds of what was heard that are marked again with each chunk: more than the network looks back."""
_FADE = 0.02
"""Seconds held back at a chunk's end, where the mark does not know how the sound goes on, and faded."""


class Watermark:
    """Marks one stream. `marker`: a `perth.WatermarkerBase`, which has no types."""

    def __init__(self, marker: Any, rate: int) -> None:
        self._marker = marker
        self._rate = rate
        self._context = round(_CONTEXT * rate)
        held = round(_FADE * rate)
        self._fade = (0.5 - 0.5 * np.cos(np.linspace(0, np.pi, held))).astype(np.float32)
        self._plain = np.empty(0, np.float32)
        """Context as it was, then what is held back."""
        self._held = np.empty(0, np.float32)
        """What is held back, marked."""

    def __call__(self, samples: Samples, last: bool) -> Samples:
        """What can be heard now: as much as came, but for what is held back until the next call or the last."""
        plain = np.concatenate([self._plain, samples])
        if not len(plain):
            return samples
        marked = self._mark(plain)
        fresh = marked[len(self._plain) - len(self._held) :].copy()
        faded = len(self._held)
        fresh[:faded] = self._fade[:faded] * fresh[:faded] + (1 - self._fade[:faded]) * self._held
        if last:
            return fresh
        keep = min(len(self._fade), len(fresh))
        self._held = fresh[len(fresh) - keep :]
        self._plain = plain[-(self._context + keep) :]
        return fresh[: len(fresh) - keep]

    def _mark(self, plain: Samples) -> Samples:
        # Perth's spectrogram needs a window of 64 ms on either side.
        short = max(0, round(0.15 * self._rate) - len(plain))
        with torch.inference_mode():  # Perth would record gradients, and never forget them.
            marked = self._marker.apply_watermark(np.pad(plain, (0, short)), sample_rate=self._rate)
        marked = np.asarray(marked, np.float32)[: len(plain)]
        return np.concatenate([marked, plain[len(marked) :]])
