"""How a system takes what is no turn: its own echo, a listener's noises; and what is one: an interruption.

Replies last about ten seconds, so that there is something to disturb. Words that the recogniser would hear are told
to it; of a cough it hears none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice, pairwise

from bench.turns.clips import Clip, Part, Speaker
from bench.turns.echo import Echo, EchoPath
from bench.turns.engines import REPLY
from bench.turns.noises import noises
from bench.turns.phone import Caller, Packet, Said, now
from bench.turns.scripts import SLOW_PACE, Control, Event, interrupted, milliseconds

ANSWER_SECONDS = 6.0
"""An agent that has not spoken by then will not."""
TRIES = 3
"""To get an answer."""

STOP_SECONDS = 0.25
"""A voice that is silent for longer has stopped."""
LISTENING_SECONDS = 2.5
"""After a sound, until what became of the voice."""

AGENT = "flite:rms"
"""The agent's voice where it comes back as an echo."""
AGENT_PACE = 0.062
"""Its seconds per character."""

WHOLE = 0.9
"""Share of a reply that was heard in full: the engines' lengths and those that are played differ a little."""

LEVELS, DELAYS = (-15.0, -20.0, -25.0, -30.0), (0.02, 0.06, 0.12, 0.18, 0.25)

BACKCHANNELS = ("uh-huh", "mm-hmm", "yeah", "okay", "right")
BACKCHANNEL_AFTER = (3.0, 6.0)
"""Seconds of a reply before its first and second sound."""

INTERRUPTIONS = (
    "No wait, I meant Tuesday.",
    "Stop.",
    "Actually, can you tell me the price first?",
    "Excuse me.",
    "Hold on a second please.",
    "Sorry, that is not what I asked for.",
    "Okay but what about the weekend?",
    "Can I speak to a person?",
    "Yeah, no, I need it earlier than that.",
    "What did you say your name was?",
)
INTERRUPTION_AFTER = (1.2, 2.1, 3.3, 4.6)
"""Seconds of the replies before they are interrupted, in turn."""

WORDS = [word for sentence in REPLY for word in sentence]
TEXT = "".join(WORDS)
"""All that the agent ever says."""


@dataclass(frozen=True)
class Echoed:
    """A reply that came back. `stops`: silences within it while nobody spoke; `asked`: questions that the language
    model got meanwhile; `heard`: share of the reply's audio, None where there was no answer."""

    echo: str
    stops: int
    asked: int
    heard: float | None

    @property
    def disturbed(self) -> bool:
        """Whether the agent took its own voice for the caller's."""
        return self.stops > 0 or self.asked > 0 or self.heard is None or self.heard < WHOLE


@dataclass(frozen=True)
class Backchannel:
    """A listener's sound over the voice. `silence`: the longest one then, ms. `stopped`: the reply was given up."""

    sound: str
    silence: float | None
    stopped: bool


@dataclass(frozen=True)
class Interruption:
    """Words over the voice. `silent`: until the voice stopped for good, ms, None where it went on. `asked`: what the
    language model was then given as the caller's words, None for nothing. `off`: words by which the history that it
    got differs from what had been heard of the reply."""

    text: str
    silent: float | None
    asked: str | None
    off: int | None

    @property
    def understood(self) -> bool:
        return self.asked is not None and _plain(self.text) in _plain(self.asked)

    @property
    def taken(self) -> bool:
        return self.silent is not None and self.understood


async def echoes(
    caller: Caller, control: Control, question: Clip, paths: Sequence[Echo], voice: str | None
) -> list[Echoed]:
    """Asks something, then only listens, with the agent's voice (None: its tones) in the microphone."""
    await control.speech(SLOW_PACE if voice is None else AGENT_PACE, voice)
    return [await _echoed(caller, control, question, echo, words=voice is not None) for echo in paths]


def echo_paths(count: int) -> Sequence[Echo]:
    """Every second one through a room."""
    kinds = zip(cycle(LEVELS), cycle(DELAYS), cycle((False, True)), strict=False)
    return [Echo(*kind) for kind in islice(kinds, count)]


async def _echoed(caller: Caller, control: Control, question: Clip, echo: Echo, *, words: bool) -> Echoed:
    caller.hear_itself(EchoPath(echo))
    await control.events()
    begun = await _reply(caller, question)
    if begun is not None:
        if words:  # the recogniser understands them in the echo, too
            await control.part(Part(TEXT, 0.0, AGENT_PACE * len(TEXT)), begun + echo.delay)
        await caller.wait_quiet(2.0, 25)
    caller.hear_itself(None)
    await caller.wait_quiet(1.0, 12)
    return judge_echo(echo, begun, caller.packets, await control.events())


def judge_echo(echo: Echo, begun: float | None, packets: Sequence[Packet], events: Sequence[Event]) -> Echoed:
    """What became of the reply that was heard from `begun` on."""
    if begun is None:
        return Echoed(str(echo), 0, 0, None)
    heard = _audible(packets, begun)
    asked = [at for at, kind, _ in events if kind == "llm_req"]
    answered = max((at for at in asked if at <= begun), default=begun)
    whole = sum(details["seconds"] for at, kind, details in events if kind == "tts_req" and at >= answered)
    return Echoed(
        echo=str(echo),
        stops=sum(silence > STOP_SECONDS for silence in _silences(heard)),
        asked=sum(at > begun for at in asked),
        heard=round(sum(packet.seconds for packet in heard) / whole, 2) if whole else None,
    )


async def backchannels(caller: Caller, control: Control, question: Clip, sounds: Sequence[Clip]) -> list[Backchannel]:
    """Listens, and lets it be heard."""
    await control.speech(SLOW_PACE)
    outcomes: list[Backchannel] = []
    begun: float | None = None
    for index, sound in enumerate(sounds):
        if begun is None or now() > begun + BACKCHANNEL_AFTER[1] or index % 2 == 0:
            await caller.wait_quiet(1.0, 15)
            await control.events()
            begun = await _reply(caller, question)
        after = BACKCHANNEL_AFTER[index % 2]
        await asyncio.sleep(max(0.0, (begun or 0.0) + after - now()))
        said = await caller.say(sound)
        await asyncio.sleep(LISTENING_SECONDS)
        outcomes.append(judge_backchannel(sound.name, said, caller.packets, await control.events()))
        if outcomes[-1].stopped:
            begun = None
    return outcomes


def backchannel_clips(speaker: Speaker, count: int) -> Sequence[Clip]:
    """Words and noises in turn."""
    words = [speaker.says((text, [text])) for text in BACKCHANNELS]
    others = [speaker.makes(name, sound) for name, sound in noises(count)]
    return [sound for pair in zip(cycle(words), others, strict=False) for sound in pair][:count]


def judge_backchannel(sound: str, said: Said, packets: Sequence[Packet], events: Sequence[Event]) -> Backchannel:
    """Whether the reply went on; another one begins with the first words of all."""
    until = said.end + LISTENING_SECONDS
    heard = [packet for packet in _audible(packets, said.start - 0.5) if packet.at < until]
    others = {
        details["hz"]
        for at, kind, details in events
        if kind == "tts_req" and at > said.start and details["text"].strip().startswith(WORDS[0])
    }
    if not heard:
        return Backchannel(sound, None, stopped=True)
    silence = max([*_silences(heard), until - heard[-1].at - heard[-1].seconds])
    another = any(packet.hertz in others for packet in heard if packet.at > said.start)
    return Backchannel(sound, milliseconds(silence), stopped=another or silence > LISTENING_SECONDS)


async def interruptions(caller: Caller, control: Control, question: Clip, clips: Sequence[Clip]) -> list[Interruption]:
    """Interrupts one reply after the other, each with other words."""
    await control.speech(SLOW_PACE)
    outcomes: list[Interruption] = []
    await control.events()
    begun = await _reply(caller, question)
    events: list[Event] = []
    for clip, after in zip(clips, cycle(INTERRUPTION_AFTER), strict=False):
        if begun is None:
            begun = await _reply(caller, question)
        events += await control.events()
        before = max(0, len(caller.packets) - 10)
        await asyncio.sleep(max(0.0, (begun or 0.0) + after - clip.onset - now()))
        said = await caller.say(clip)
        stopped = interrupted(said, caller.packets, before, now()).wire
        answered = await caller.wait_agent(ANSWER_SECONDS) if stopped is not None else None
        events += await control.events()
        outcomes.append(judge_interruption(clip.name, said, stopped, begun, answered, caller.packets, events))
        begun = answered
        if answered is None:
            await caller.wait_quiet(1.0, 12)
        events = [event for event in events if event[0] > said.start]
    return outcomes


def interruption_clips(speaker: Speaker, count: int) -> Sequence[Clip]:
    clips = [speaker.says((text, [text])) for text in INTERRUPTIONS[:count]]
    return list(islice(cycle(clips), count))


def judge_interruption(
    text: str,
    said: Said,
    silent: float | None,
    begun: float | None,
    answered: float | None,
    packets: Sequence[Packet],
    events: Sequence[Event],
) -> Interruption:
    """What the language model was asked, between the interruption and its answer."""
    until = now() if answered is None else answered
    asked = [details for at, kind, details in events if kind == "llm_req" and said.start < at < until]
    if not asked:
        return Interruption(text, silent, asked=None, off=None)
    replies = [content for role, content in asked[-1]["messages"] if role == "assistant"]
    off = None
    if replies and begun is not None and silent is not None:
        stop = said.start + silent / 1000
        seconds = sum(packet.seconds for packet in _audible(packets, begun) if packet.at <= stop)
        off = words_of(replies[-1]) - words_said(seconds / SLOW_PACE)
    return Interruption(text, silent, asked[-1]["user"], off)


def words_said(characters: float) -> int:
    """How many of the reply's words end within its first `characters`, without the spaces between sentences."""
    said, at = 0, 0.0
    for sentence in REPLY:
        for index, word in enumerate(sentence):
            at += len(word) if index else len(word.strip())
            said += at <= characters
    return said


def words_of(content: str) -> int:
    """How many of the reply's words `content` has, from the first on."""
    said = _plain(content).split()
    pairs = zip(_plain(TEXT).split(), said, strict=False)
    return next((index for index, (meant, word) in enumerate(pairs) if meant != word), len(said))


def _plain(text: str) -> str:
    return " ".join("".join(letter for letter in text.lower() if letter.isalnum() or letter == " ").split())


async def _reply(caller: Caller, question: Clip) -> float | None:
    """Asks `question`; when its answer begins."""
    for _ in range(TRIES):
        await caller.say(question)
        begun = await caller.wait_agent(ANSWER_SECONDS)
        if begun is not None:
            return begun
    return None


def _audible(packets: Sequence[Packet], since: float) -> list[Packet]:
    return [packet for packet in packets if packet.loud and packet.at >= since]


def _silences(heard: Sequence[Packet]) -> list[float]:
    """Seconds between packets."""
    return [after.at - before.at - before.seconds for before, after in pairwise(heard)]
