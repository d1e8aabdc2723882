"""Turns and interruptions: what the caller does, and what is read from it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from bench.turns.clips import Clip, Part, Speaker, Utterance
from bench.turns.phone import Caller, Packet, Said, now

SHORT_PAUSE = 0.35
"""Of the paused utterances of `turns`."""

PACE, SLOW_PACE = 0.016, 0.066
"""Seconds per character: of usual replies, and of replies of 9.4 s, so that there is something to interrupt."""

CHAIN = ("stt_req", "stt_res", "llm_req", "llm_first", "llm_sent1", "tts_req", "tts_first")

Event = tuple[float, str, dict[str, Any]]


@dataclass(frozen=True)
class Exchange:
    """One utterance and what followed. Milliseconds count from the true end of speech.

    `v2v`: to the first packet with the tone of speech that was synthesised in this turn. `cut`: the agent was heard
    between the utterance's start and its end. `stale`: the first audible reply was asked for before the last part
    was transcribed. `early`: the model was asked before the end. `chain`: what the engines saw.
    """

    name: str
    paused: bool
    v2v: float | None
    cut: bool
    stale: bool
    early: bool
    questions: int
    fillers: int
    """Audible packets without such a tone."""
    chain: dict[str, float] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        return self.v2v is not None and not self.cut and not self.stale


@dataclass(frozen=True)
class BargeIn:
    """Milliseconds from the caller's first sample until the agent's last packet left (`wire`), and until that had been
    played by a far end with a playout buffer (`played`); None where the agent went on speaking."""

    wire: float | None
    played: float | None


class Control:
    """The engines' own side of the story."""

    def __init__(self, session: aiohttp.ClientSession, engines: str) -> None:
        self._session = session
        self._engines = engines

    async def part(self, part: Part, start: float) -> None:
        """The caller begins to say `part` at clock time `start`."""
        await self._post("part", {"text": part.text, "start": start, "seconds": part.end - part.start})

    async def speech(self, seconds_per_character: float = PACE, voice: str | None = None) -> None:
        """How fast the agent's tones are from now on, or which voice speaks instead of them."""
        await self._post("speech", {"seconds_per_character": seconds_per_character, "voice": voice})

    async def events(self) -> list[Event]:
        """What happened since the last call."""
        async with self._session.get(f"{self._engines}/control/events") as response:
            return [(at, kind, details) for at, kind, details in await response.json()]

    async def _post(self, what: str, body: dict[str, Any]) -> None:
        async with self._session.post(f"{self._engines}/control/{what}", json=body) as response:
            await response.read()


def turn_clips(speaker: Speaker, utterances: Sequence[Utterance], pause: float | None) -> Sequence[Clip]:
    """All utterances with the usual pause, or only the paused ones with another."""
    clips = [speaker.says(utterance, pause or SHORT_PAUSE) for utterance in utterances]
    return clips if pause is None else [clip for clip in clips if clip.paused]


async def turns(caller: Caller, control: Control, clips: Sequence[Clip]) -> list[Exchange]:
    """Says one clip after the other, and listens to each answer to its end."""
    return [await _turn(caller, control, clip) for clip in clips]


async def _turn(caller: Caller, control: Control, clip: Clip) -> Exchange:
    await control.events()
    before = len(caller.packets)
    said = await caller.say(clip)
    # Listens for at least 3 s, until the agent has been quiet for 0.7 s, at most 9 s.
    while now() < said.end + 9:
        heard = any(packet.loud and packet.at > said.end for packet in caller.packets[before:])
        if heard and now() > said.end + 3 and now() - caller.received.loud_until > 0.7:
            break
        await asyncio.sleep(0.02)
    return judge(clip, said, caller.packets[before:], await control.events())


def judge(clip: Clip, said: Said, packets: Sequence[Packet], events: Sequence[Event]) -> Exchange:
    """What became of one utterance."""
    tones = {details["hz"] for _, kind, details in events if kind == "tts_req"}
    questions = [(at, details["user"]) for at, kind, details in events if kind == "llm_req"]

    def answers(packet: Packet) -> bool:
        return packet.hertz > 0 and any(abs(packet.hertz - tone) <= 50 for tone in tones)

    after = [packet for packet in packets if packet.loud and packet.at > said.end]
    heard = next((packet.at for packet in after if answers(packet)), None)
    stale = False
    if heard is not None and clip.paused:
        asked = [user for at, user in questions if at < heard]
        stale = bool(asked) and _second_last_word(clip.parts[-1].text) not in asked[-1].lower()
    return Exchange(
        name=clip.name,
        paused=clip.paused,
        v2v=None if heard is None else milliseconds(heard - said.end),
        cut=any(packet.loud and said.start + 0.02 < packet.at < said.end for packet in packets),
        stale=stale,
        early=any(at < said.end for at, _ in questions),
        questions=len(questions),
        fillers=sum(not answers(packet) for packet in after),
        chain={} if heard is None else _chain(events, heard, said.end),
    )


def _second_last_word(text: str) -> str:
    words = text.lower().strip(".?!").split()
    return (words[-2:-1] or words[-1:])[0].strip(",")


def _chain(events: Sequence[Event], heard: float, end: float) -> dict[str, float]:
    """The engine events that led to what was heard, in milliseconds after the end of speech."""

    def last(kind: str, until: float) -> float | None:
        return max((at for at, what, _ in events if what == kind and at <= until), default=None)

    def first(kind: str, since: float) -> float | None:
        return min((at for at, what, _ in events if what == kind and since <= at <= heard), default=None)

    asked = last("llm_req", heard)
    if asked is None:
        return {}
    uploaded = last("stt_req", asked)
    spoken = first("tts_req", asked)
    instants = {
        "stt_req": uploaded,
        "stt_res": None if uploaded is None else first("stt_res", uploaded),
        "llm_req": asked,
        "llm_first": first("llm_first", asked),
        "llm_sent1": first("llm_sent1", asked),
        "tts_req": spoken,
        "tts_first": first("tts_first", spoken or asked),
    }
    return {kind: milliseconds(at - end) for kind, at in instants.items() if at is not None}


async def barge_in(caller: Caller, control: Control, question: Clip, interruption: Clip, count: int) -> list[BargeIn]:
    """Asks something, then interrupts each answer 1.0 s after its beginning with the next question."""
    await control.speech(SLOW_PACE)
    stopped: list[BargeIn] = []
    await caller.say(question)
    for _ in range(count):
        heard = await caller.wait_agent(6)
        if heard is None:
            await caller.say(question)
            heard = await caller.wait_agent(6)
            if heard is None:
                stopped.append(BargeIn(None, None))
                continue
        await asyncio.sleep(max(0.0, heard + 1.0 - interruption.onset - 0.01 - now()))
        before = max(0, len(caller.packets) - 10)
        said = await caller.say(interruption)
        stopped.append(interrupted(said, caller.packets, before, now(), caller.received.cleared))
        if stopped[-1].wire is None:
            await caller.wait_quiet(1.0, 12)
            await caller.say(question)
    return stopped


def interrupted(said: Said, packets: Sequence[Packet], since: int, at: float, cleared: Sequence[float] = ()) -> BargeIn:
    """When the voice that sounded at the onset went silent: its last audible packet before a gap of 250 ms."""
    last: float | None = None
    end = 0.0
    for packet in packets[since:]:
        if not packet.loud:
            continue
        if last is not None and packet.at >= said.start and packet.at - end > 0.25:
            break
        last, end = packet.at, packet.at + packet.seconds
    if last is None or at - last <= 0.2 or last >= said.end + 1.0:
        return BargeIn(None, None)
    played = 0.0
    emptied = [instant for instant in cleared if instant > said.start]
    for packet in packets:
        if packet.at > last:
            break
        gone = max((instant for instant in cleared if instant <= packet.at), default=played)
        played = max(min(played, gone), packet.at) + packet.seconds
    played = min([played, *emptied[:1]])
    return BargeIn(milliseconds(last - said.start), milliseconds(played - said.start))


def milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)
