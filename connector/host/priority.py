"""Packets first: the event loop's thread goes ahead of whatever else wants its core."""

from __future__ import annotations

import os

PACKETS_NICE = -11
"""What sound servers give to the thread that feeds the sound card (PipeWire, PulseAudio): 12 times the usual weight."""


def put_thread_first() -> bool:
    """Lowers the calling thread's nice value to `PACKETS_NICE`; whether that was permitted (RLIMIT_NICE).

    Threads and processes that it starts from now on have the usual one (SCHED_RESET_ON_FORK, sched(7)).
    """
    usual = os.sched_getscheduler(0)
    try:
        # First, as priority that engines inherit would be none.
        os.sched_setscheduler(0, usual | os.SCHED_RESET_ON_FORK, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, PACKETS_NICE)
    except PermissionError:
        return False
    return True
