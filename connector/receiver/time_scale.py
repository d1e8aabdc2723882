"""Making audio longer or shorter without a click: WSOLA (Verhelst and Roelands 1993), one joint at a time."""

from __future__ import annotations

import numpy as np

from connector.audio import Samples

OVERLAP_SECONDS = 0.005
"""Both sides of a joint are blended over this time, and must be alike in it."""
QUIET = 200
"""Where all samples stay below this (-44 dBFS) they may be joined anyhow."""


def join(samples: Samples, at: int, jumps: range, rate: int, likeness: float, exact: int) -> Samples | None:
    """What to play from sample `at` on, when time jumps there by one of `jumps` samples (backward: below 0).

    The jump is the one whose far side is most like what `at` begins, or `exact` where all is quiet.
    None: the best is less like it than `likeness` (normalised correlation, -1 to 1). `samples` must reach from the
    least jump before `at` to `OVERLAP_SECONDS` after the greatest.
    """
    overlap = round(OVERLAP_SECONDS * rate)
    first = at + jumps[0]
    near = samples[at : at + overlap].astype(np.float64)
    far = samples[first : at + jumps[-1] + overlap].astype(np.float64)
    if samples.max() < QUIET and samples.min() > -QUIET:
        jump = exact
    else:
        sums = np.concatenate(([0.0], np.cumsum(np.square(far))))
        energies = (sums[overlap:] - sums[:-overlap]) * np.dot(near, near)
        alike = np.correlate(far, near) / np.sqrt(energies + 1.0)
        best = int(np.argmax(alike[:: jumps.step]))
        if alike[best * jumps.step] < likeness:
            return None
        jump = jumps[best]
    joined = samples[at + jump :].copy()
    rise = np.arange(1, overlap + 1) / (overlap + 1)
    joined[:overlap] = np.rint(near + (joined[:overlap] - near) * rise)
    return joined
