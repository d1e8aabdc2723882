"""`voxtrunk chat`: the conversation of a flavor by keyboard."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from connector import config
from connector.cli.answering import Account, Answering, answering
from connector.cli.console import DEFAULT_CONFIG, AsJson, ConfigFile, settings_of
from connector.config.model import Flavor, Settings
from connector.errors import EngineError
from connector.interfaces import (
    Action,
    CallInfo,
    HangUp,
    IntentMatched,
    Party,
    PauseRecording,
    ResumeRecording,
    SendDtmf,
    TextDelta,
    Transfer,
)
from connector.pipeline.facts import personal
from connector.pipeline.history import History
from connector.pipeline.passages import PassageReader, plain

app = typer.Typer(add_completion=False)


@app.command()
def chat(
    flavor: Annotated[str, typer.Option("--flavor", metavar="NAME", help="The flavor to talk to.")],
    file: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Talk to a flavor by keyboard: its greeting, its language model, its actions; no speech.

    Reads lines until the end of input or until the flavor hangs up. Where the flavor's first language
    model fails, its next one goes on, as in a call, and is named with the cause. With --json, one JSON
    object for each turn.
    """
    logging.getLogger("connector").addHandler(logging.NullHandler())  # what engines do is told with the replies
    settings = settings_of(file)
    nobody = CallInfo(call_id="", called="", calling="")
    asyncio.run(_chat(personal(config.flavor_named(settings, flavor), nobody), settings, as_json=as_json))


async def _chat(flavor: Flavor, settings: Settings, *, as_json: bool) -> None:
    screen = _JsonLines() if as_json else _Screen()
    async with answering(flavor, settings) as model:
        history = History(flavor.persona)
        if flavor.greeting:
            greeting = plain(flavor.greeting)
            history.add("", greeting)
            screen.reply(greeting)
            screen.end("", None, [])
        async for line in _lines(screen):
            if not await _turn(model, history, line, screen):
                return


async def _turn(model: Answering, history: History, line: str, screen: _Screen) -> bool:
    """One exchange; False where it ends the conversation."""
    intent: str | None = None
    actions: list[Action] = []
    reply = ""
    passages = PassageReader()
    try:
        async for event in model.reply(history.asking(line)):
            match event:
                case TextDelta(text):
                    for passage in passages.push(text):
                        reply += passage.text
                        screen.reply(passage.text)
                case IntentMatched(name):
                    intent = name
                case HangUp() | Transfer() | SendDtmf() | PauseRecording() | ResumeRecording():
                    actions.append(event)
    except EngineError as error:
        screen.end(line, intent, [], model.account(), str(error))
        return True
    for passage in passages.flush():
        reply += passage.text
        screen.reply(passage.text)
    history.add(line, reply)
    screen.end(line, intent, actions, model.account())
    return not any(isinstance(action, HangUp | Transfer) for action in actions)


async def _lines(screen: _Screen) -> AsyncIterator[str]:
    """What is typed or piped in, line by line; blank lines are skipped."""
    rest = b""
    while True:
        screen.prompt()
        while b"\n" not in rest:
            chunk = await _read(sys.stdin.fileno())
            if not chunk:
                break
            rest += chunk
        line, newline, rest = rest.partition(b"\n")
        text = line.decode(errors="replace").strip()
        if text:
            yield text
        if not newline:
            return


async def _read(descriptor: int) -> bytes:
    """The next bytes, without blocking the event loop where that is possible; b"" at the end."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    try:
        loop.add_reader(descriptor, ready.set_result, None)
    except PermissionError:  # a file: it never waits, so epoll does not take it
        return os.read(descriptor, 65536)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, 65536)


NOBODY = Account(None, None, ())
"""What is said unasked is no engine's."""


class _Screen:
    """The conversation as text."""

    def __init__(self) -> None:
        self._terminal = sys.stdin.isatty() and sys.stdout.isatty()

    def prompt(self) -> None:
        """Shows that it is the user's turn, where a user sits there."""
        if self._terminal:
            typer.echo("> ", nl=False)

    def reply(self, text: str) -> None:
        """Shows a piece of the reply."""
        typer.echo(text, nl=False)

    def end(
        self,
        heard: str,
        intent: str | None,
        actions: Sequence[Action],
        account: Account = NOBODY,
        error: str | None = None,
    ) -> None:
        """The turn is over; `account`: who gave the reply."""
        for action in actions:
            typer.echo(f" [{_described(action)}]", nl=False)
        if error is None and account.passed_over:
            causes = "; ".join(f"{one.engine}: {one.error}" for one in account.passed_over)
            typer.echo(f" [answered by {account.engine}, number {account.rung} of the list: {causes}]", nl=False)
        typer.echo("" if error is None else f" [failed: {error}]")


class _JsonLines(_Screen):
    """The conversation as one JSON object for each turn."""

    def __init__(self) -> None:
        super().__init__()
        self._reply = ""

    def prompt(self) -> None:
        """Programs need none."""

    def reply(self, text: str) -> None:
        self._reply += text

    def end(
        self,
        heard: str,
        intent: str | None,
        actions: Sequence[Action],
        account: Account = NOBODY,
        error: str | None = None,
    ) -> None:
        turn = {
            "heard": heard,
            "reply": self._reply,
            "intent": intent,
            "actions": [{"action": _ACTIONS[type(action)], **_fields(action)} for action in actions],
            "error": error,
            **asdict(account),
        }
        typer.echo(json.dumps(turn, ensure_ascii=False))
        self._reply = ""


_ACTIONS: Mapping[type[Action], str] = {
    HangUp: "hang_up",
    Transfer: "transfer",
    SendDtmf: "send_dtmf",
    PauseRecording: "pause_recording",
    ResumeRecording: "resume_recording",
}


def _described(action: Action) -> str:
    match action:
        case HangUp():
            return "hangs up"
        case Transfer(target):
            return f"transfers to {target}"
        case SendDtmf(digits):
            return f"presses {digits}"
        case PauseRecording():
            return "pauses the recording"
        case ResumeRecording():
            return "resumes the recording"


def _fields(action: Action) -> dict[str, object]:
    """What `action` says. Who wishes it goes without saying: in a chat it is the model."""
    return {name: value for name, value in asdict(action).items() if not isinstance(value, Party)}
