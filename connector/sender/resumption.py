"""Where to go on after a word was cut off: at its begin, so that the listener hears it whole."""

from __future__ import annotations

import numpy as np

from connector.audio import Samples

HOP_SECONDS = 0.01
"""Loudness is looked at in steps of this."""
GAP_HOPS = 6
"""So many quiet hops in a row are a gap between words; the closure of a plosive within one is rarely as long."""
GAP_DB = 30.0
"""A hop is quiet where it is so far below the loudest."""


def resumption(samples: Samples, rate: int) -> int:
    """The place in `samples`, heard until speech was cut off behind their last, from which to hear it again.

    That is the end of the latest gap between words, or the quietest place where words run into each other;
    0 where there is too little to choose from.
    """
    hop = round(HOP_SECONDS * rate)
    count = len(samples) // hop
    if not count:
        return 0
    first = len(samples) - count * hop
    hops = samples[first:].reshape(count, hop).astype(np.float64)
    power = np.einsum("ij,ij->i", hops, hops)
    quiet = power <= power.max() * 10 ** (-GAP_DB / 10)
    # How many of the hops up to each are quiet, so that a difference counts those of a window.
    quiets = np.concatenate(([0], np.cumsum(quiet)))
    gaps = np.flatnonzero(quiets[GAP_HOPS:] - quiets[:-GAP_HOPS] == GAP_HOPS)
    place = int(gaps[-1]) + GAP_HOPS - 1 if len(gaps) else int(np.argmin(power))
    return first + place * hop
