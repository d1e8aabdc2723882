"""Waiting until an exact time: a timerfd (timerfd_create(2)), which the event loop watches.

The loop's own timers are rounded up to whole milliseconds by epoll, which packets would leave unevenly by. Python has
timerfd from 3.13 on only, so this calls the C library.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)

_ABSOLUTE = 1
"""TFD_TIMER_ABSTIME."""


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Timer:
    """One timer of the running loop, for one sleeper at a time. Raises `OSError` where the system has no more."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiter: _Expiry | None = None
        self._time = _Itimerspec()
        self._descriptor = _libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._loop.add_reader(self._descriptor, self._expired)

    async def until(self, at: float) -> None:
        """Returns at `at`, seconds of `time.monotonic`; at once where that has passed."""
        seconds, fraction = divmod(max(at, 0.0), 1)
        value = self._time.value
        value.seconds = int(seconds)
        value.nanoseconds = int(fraction * 1e9) or 1  # a time of zero would disarm it
        waiter = self._waiter = _Expiry(loop=self._loop)
        _libc.timerfd_settime(self._descriptor, _ABSOLUTE, ctypes.byref(self._time), None)
        await waiter

    def close(self) -> None:
        """Frees it."""
        if not self._loop.is_closed():
            self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _expired(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._descriptor, 8)
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.expire()


class _Expiry(asyncio.Future[None]):
    """Resumes the one task that awaits it at once, and not in the event loop's next round, which costs 50 µs."""

    _resume: Callable[[Any], object] | None = None
    _context: Context | None = None

    def add_done_callback(self, fn: Callable[[Any], object], /, *, context: Context | None = None) -> None:
        self._resume, self._context = fn, context

    def expire(self) -> None:
        """The time has come. Called by the event loop, so that no other task is running."""
        if self.done():
            return
        self.set_result(None)
        if self._resume is not None and self._context is not None:
            self._context.run(self._resume, self)

    def cancel(self, msg: Any = None) -> bool:
        """The task is cancelled."""
        cancelled = super().cancel(msg)
        if cancelled and self._resume is not None:
            self.get_loop().call_soon(self._resume, self, context=self._context)
        return cancelled
