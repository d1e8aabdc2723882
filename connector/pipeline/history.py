"""The conversation as the caller knows it."""

from __future__ import annotations

from collections.abc import Sequence

from connector.interfaces import Message, Role

INTERRUPTED = "…"
"""Ends a reply that the caller cut short, right after the last word heard."""

HISTORY_CHARACTERS = 24_000
"""Text kept, about 6,000 tokens. When it is exceeded the older half goes at once, so that a model's
prefix cache is good for many turns in between."""


class History:
    """Messages of one conversation: what the caller said and what the caller heard.

    User and assistant alternate, as strict chat templates demand: what follows a message of the
    same role is joined to it. `persona` is the system message; "" for none.
    """

    def __init__(self, persona: str = "", limit: int = HISTORY_CHARACTERS) -> None:
        self._system = (Message(Role.SYSTEM, persona),) if persona else ()
        self._messages: list[Message] = []
        self._limit = limit

    @property
    def messages(self) -> Sequence[Message]:
        """What a language model is given, oldest first, the system message before all."""
        return (*self._system, *self._messages)

    def asking(self, text: str) -> Sequence[Message]:
        """`messages` as they would be had the user said `text`; nothing is added."""
        return (*self._system, *_joined(self._messages, Message(Role.USER, text)))

    def add(self, heard: str, spoken: str, *, cut: bool = False) -> None:
        """Adds one exchange: what the caller said and what the caller heard of the reply ("" for nothing).

        `cut`: the reply went on, unheard.
        A prompt that is already the last thing said is not added again.
        """
        if heard:
            self._messages = _joined(self._messages, Message(Role.USER, heard))
        if spoken:
            content = spoken + INTERRUPTED if cut else spoken
            if heard or not self._ends_with(content):
                self._messages = _joined(self._messages, Message(Role.ASSISTANT, content))
        self._shorten()

    def _ends_with(self, content: str) -> bool:
        last = self._messages[-1] if self._messages else None
        return last is not None and last.role is Role.ASSISTANT and last.content.endswith(content)

    def _shorten(self) -> None:
        size = sum(len(message.content) for message in self._messages)
        if size <= self._limit:
            return
        while len(self._messages) > 2 and size > self._limit / 2:
            size -= len(self._messages.pop(0).content)


def _joined(messages: Sequence[Message], message: Message) -> list[Message]:
    if messages and messages[-1].role is message.role:
        return [*messages[:-1], Message(message.role, f"{messages[-1].content} {message.content}")]
    return [*messages, message]
