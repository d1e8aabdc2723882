"""Waiting until an exact time: a timerfd (timerfd_create(2)), which the event loop watches.

The loop's own timers are rounded up to whole milliseconds by epoll, which packets would leave unevenly by. Python has
timerfd from 3.13 on only, so this calls the C library.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time

_libc = ctypes.CDLL(None, use_errno=True)

_ABSOLUTE = 1
"""TFD_TIMER_ABSTIME."""


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


async def sleep_until(at: float) -> None:
    """Returns at `at`, seconds of `time.monotonic`; at once where that has passed."""
    loop = asyncio.get_running_loop()
    timer = _libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    if timer < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create failed")
    expired = asyncio.Event()
    try:
        loop.add_reader(timer, expired.set)
        seconds, fraction = divmod(max(at, 1e-9), 1)  # a time of zero would disarm it
        value = _Timespec(int(seconds), int(fraction * 1e9))
        _libc.timerfd_settime(timer, _ABSOLUTE, ctypes.byref(_Itimerspec(_Timespec(), value)), None)
        await expired.wait()
    finally:
        loop.remove_reader(timer)
        os.close(timer)
