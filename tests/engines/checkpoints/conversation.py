"""What the micro checkpoints know: a conversation with callers of a small company, word for word.

The micro Whisper recognises `SENTENCES`, the micro Llama answers them as `EXCHANGES` say.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

PERSONA = "You are the assistant on the telephone."
"""The system message that the micro Llama learnt with."""

GREETING = "Hello. How can I help you today?"

TRANSFER_TARGETS = {"billing": "2003"}
"""As the option of `openai-chat`: what the model may name, and the number behind it."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of one of voxtrunk's tools: its name, and its arguments as the model writes them."""

    name: str
    arguments: dict[str, str]

    @property
    def written(self) -> str:
        """As Llama 3 writes it, and vLLM's parser `llama3_json` reads it."""
        return json.dumps({"name": self.name, "parameters": self.arguments})


@dataclass(frozen=True, slots=True)
class Exchange:
    """`said` by the caller, answered by `reply`; where tools are offered, by `call`, whose `say` is heard."""

    said: str
    reply: str
    call: ToolCall | None = None

    def answer(self, *, tools: bool) -> str:
        """What the model writes."""
        return self.call.written if tools and self.call else self.reply

    def heard(self, *, tools: bool) -> str:
        """What the caller hears of it, which is what the history tells the model afterwards."""
        return self.call.arguments["say"] if tools and self.call else self.reply


EXCHANGES = (
    Exchange("hello how are you today", "Fine, thank you. What can I do for you?"),
    Exchange("i would like to book an appointment", "Sure. Which day would you like?"),
    Exchange("the meeting is on monday at ten", "Monday at ten is free. Shall I book it?"),
    Exchange("yes please", "Your appointment is booked. Anything else?"),
    Exchange("no thank you", "All right. Have a nice day."),
    Exchange("what time do you open on saturday", "We open at nine on Saturday. We close at one."),
    Exchange("where is my package", "Your package will arrive tomorrow."),
    Exchange("how much does it cost", "It costs twenty dollars."),
    Exchange("cancel my order", "Your order is cancelled."),
    Exchange("i have a question about my bill", "What would you like to know about it?"),
    Exchange(
        "please transfer me to the billing department",
        "I am afraid nobody is there.",
        ToolCall("transfer", {"say": "One moment, I will connect you.", "target": "billing"}),
    ),
    Exchange(
        "good bye",
        "Goodbye.",
        ToolCall("hang_up", {"say": "Thank you for calling. Goodbye."}),
    ),
)

SENTENCES = (
    *(exchange.said for exchange in EXCHANGES),
    "can you call me back tomorrow morning",
    "i want to speak to a human",
    "my phone number is five five five one two three four",
    "the account number is nine eight seven six five",
    "i need help with my internet connection",
    "can you repeat that please",
    "turn on the lights",
    "seven three zero four two one",
)
"""What the micro Whisper recognises, in the words in which it writes it down."""


def exchange(said: str) -> Exchange:
    """The exchange that begins with `said`; raises `KeyError` where there is none."""
    return {known.said: known for known in EXCHANGES}[said]
