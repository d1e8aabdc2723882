"""The last rung of a flavor: what becomes of a call when no engine is left for one of its parts.

A `LastResort` is a pipeline around another one. It hears how that one's turns went, and says in its voice, from the
speech that was kept, what happens now: the caller is transferred, offered a menu of keys, or the call is ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from connector.config.model import Flavor, LastResortSettings
from connector.interfaces import (
    Action,
    Digit,
    HangUp,
    Party,
    Pipeline,
    PipelineObserver,
    Transfer,
    TurnRecord,
)
from connector.pipeline.passages import plain
from connector.pipeline.script import CHARACTERS_PER_SECOND

FAILED_TURNS = 2
"""So many failed turns in a row are enough, whatever the engines' probes say."""

GRACE_SECONDS = 8.0
"""This long after the words should have been heard what follows them is done, whether they were or not. A caller who
has not chosen from the menu hears it again ..."""

MENU_TIMES = 3
"""... so many times in all."""

ENDED = "no engine left"

Make = Callable[[Flavor, PipelineObserver], Pipeline]
"""Makes the pipeline within, for the flavor and to the observer that it is given."""


class LastResort:
    """Implements `Pipeline` and `PipelineObserver`. `problem`: why the flavor cannot answer now, "" where it can."""

    def __init__(
        self,
        make: Make,
        flavor: Flavor,
        settings: LastResortSettings,
        observer: PipelineObserver,
        problem: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._observer = observer
        self._problem = problem
        self._failed_turns = 0
        self._needed = asyncio.Event()
        if problem():
            self._needed.set()
            flavor = flavor.model_copy(update={"greeting": ""})  # nobody is asked what he wants
        self._over = asyncio.Event()
        """What is being done about it is to be done no more."""
        self._pipeline = make(flavor, self)

    # ------------------------------------------------------------------------------ the pipeline's verbs

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(self._wait(), name="last resort")
            try:
                await self._pipeline.run()
            finally:
                waiting.cancel()

    def digit(self, digit: Digit) -> None:
        target = self._settings.keys.get(digit.digit) if self._needed.is_set() else None
        if target is None:
            self._pipeline.digit(digit)
        else:
            self._act(Transfer(target))

    def hold(self, held: bool) -> None:
        self._pipeline.hold(held)

    def say(self, text: str, then: Action | None = None) -> None:
        self._pipeline.say(text, then)

    # ------------------------------------------------------------------------------ what the pipeline tells

    def turn(self, record: TurnRecord) -> None:
        self._observer.turn(record)
        if record.error is None:
            self._went_well(record)
        else:
            self._failed_turns += 1
            if self._needed.is_set() and record.reply == plain(self._settings.say):
                self._act(self._way_out)  # not even the words for it could be said
            elif self._failed_turns >= FAILED_TURNS or self._problem():
                self._needed.set()

    def act(self, action: Action) -> None:
        if action == self._way_out:
            self._over.set()
        self._observer.act(action)

    # ------------------------------------------------------------------------------ what is done

    @property
    def _way_out(self) -> Action:
        """What follows the words; of a menu that nobody uses, too."""
        target = self._settings.transfer
        return Transfer(target) if target is not None else HangUp(ENDED, Party.SYSTEM)

    def _went_well(self, record: TurnRecord) -> None:
        """The caller was answered, so an engine is back; what was said unasked, from what was kept, tells nothing."""
        if record.heard and record.reply:
            self._failed_turns = 0
            if self._needed.is_set() and not self._problem():
                self._over.set()

    def _act(self, action: Action) -> None:
        self._over.set()
        self._observer.act(action)

    async def _wait(self) -> None:
        """Does what is to be done, each time that it is needed."""
        while True:
            await self._needed.wait()
            await self._take_over()
            self._needed.clear()
            self._over.clear()

    async def _take_over(self) -> None:
        words, menu = self._settings.say, bool(self._settings.keys)
        for _ in range((MENU_TIMES if menu else 1) if words else 0):
            self._pipeline.say(words, None if menu else self._way_out)
            if await self._is_over(len(words) / CHARACTERS_PER_SECOND + GRACE_SECONDS):
                return
        self._observer.act(self._way_out)

    async def _is_over(self, seconds: float) -> bool:
        """Whether nothing more is to be done, known within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            return False
        return True
