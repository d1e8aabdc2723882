"""docs/behind-asterisk.md, followed to the letter: a real Asterisk, real OpenSIPS and rtpengine, a call of each kind.

The addresses of the page are real ones, in a network of the test's own. What the page takes for granted is here: the
PBX's transport, its phones 1001 (baresip) and 2000 (SIPp), and a context of scripts that test callers run.
"""

from __future__ import annotations

import asyncio
import shlex
import wave
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from connector.audio import Samples
from connector.record import CallRecord
from docs.generate import ROOT
from tests.e2e import asterisk, baresip, followed, network, opensips, sipp
from tests.e2e.followed import Page, Site
from tests.e2e.test_docs import Scratch, follow
from tests.e2e.test_docs import blocks as all_blocks
from tests.fakes.audio import hears, level_db

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(asterisk.installation() is None, reason=asterisk.missing_reason()),
    pytest.mark.skipif(network.missing_reason() is not None, reason=str(network.missing_reason())),
    pytest.mark.skipif(sipp.missing_reason() is not None, reason=str(sipp.missing_reason())),
]

PAGE = Page(ROOT / "docs" / "behind-asterisk.md")

PBX, VOXTRUNK, STRANGER = "192.0.2.10", "192.0.2.20", "192.0.2.66"
PEOPLE = ("127.0.0.1", 5080)
"""Where the phone 2000 is."""

BASE = f"""
[global]
type = global
endpoint_identifier_order = username,ip
[@TRANSPORT@]
type = transport
protocol = udp
bind = {PBX}:5060
[phone](!)
type = endpoint
transport = @TRANSPORT@
context = internal
disallow = all
allow = ulaw
direct_media = no
dtmf_mode = rfc4733
moh_passthrough = yes
[1001](phone)
aors = 1001
callerid = "Alice" <1001>
[1001]
type = aor
[2000](phone)
aors = 2000
[2000]
type = aor
contact = sip:2000@{PEOPLE[0]}:{PEOPLE[1]}
[stranger-udp]
type = transport
protocol = udp
bind = {STRANGER}:5060
[stranger]
type = endpoint
transport = stranger-udp
disallow = all
allow = ulaw
aors = stranger
[stranger]
type = aor
contact = sip:{VOXTRUNK}:5060
"""
"""pjsip.conf of a PBX that knows nothing of voxtrunk yet, and of another one, at an address that nobody allows."""

SCRIPTS = """
[scripts]
exten => tone,1,MixMonitor({out}/both.wav,r({out}/heard.wav))
 same => n,Milliwatt()
exten => wait,1,MixMonitor({out}/both.wav,r({out}/heard.wav))
 same => n,Wait(60)
exten => operator,1,Wait(1)
 same => n,SendDTMF(0#)
 same => n,Wait(60)
exten => goodbye,1,Wait(1)
 same => n,SendDTMF(#)
 same => n,Wait(60)
exten => keys,1,Wait(1)
 same => n,SendDTMF(159#)
 same => n,Read(KEYS,,3,,,20)
 same => n,Set(GLOBAL(KEYS)=${KEYS})
 same => n,Wait(60)
[from-alice]
exten => _X.,1,Set(CALLERID(all)="Alice" <1001>)
 same => n,Goto(internal,${EXTEN},1)
[watched]
exten => _X.,1,Dial(PJSIP/${EXTEN}@voxtrunk,10)
exten => h,1,Set(GLOBAL(OUTCOME)=${DIALSTATUS})
[strange]
exten => _X.,1,Dial(PJSIP/${EXTEN}@stranger,10)
exten => h,1,Set(GLOBAL(OUTCOME)=${DIALSTATUS})
"""

KEYS_ENGINE = {
    "keys/pyproject.toml": """
[project]
name = "keys"
version = "0.1"
[project.entry-points."voxtrunk.engines"]
keys = "keys:descriptor"
""",
    "keys/keys.py": '''
"""A language model that presses keys in answer to keys."""

from connector.interfaces import EngineDescriptor, EngineKind, EngineOptions, SendDtmf, TextDelta


class Keys:
    phrases = ("hello",)

    async def start(self): ...
    async def check(self): ...
    async def aclose(self): ...

    async def reply(self, history):
        if "159" in history[-1].content:
            yield TextDelta("I press.")
            yield SendDtmf("42#")


descriptor = EngineDescriptor(
    name="keys", kind=EngineKind.LLM, options=EngineOptions, extra="", load=lambda options, context: Keys()
)
''',
    "flavors/keys.yml": """
vad: {engine: silero}
stt: {engine: pocketsphinx}
llm: {engine: keys}
tts: {engine: flite}
""",
}
MORE_ROUTES = """\
  - {number: "7002", flavor: keys}
  - {number: "7003", flavor: offline, with: {llm: {values: {operator: "3000"}}}}
"""


@pytest.fixture(scope="module", params=opensips.installations(), ids=str)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The page followed up to the running stack."""
    folder = tmp_path_factory.mktemp("site")
    more = {"voxtrunk.yml": MORE_ROUTES, **KEYS_ENGINE}
    with (
        network.inside(PBX, VOXTRUNK, STRANGER),
        followed.running(PAGE, folder, request.param, more) as running,
    ):
        yield running


class Pbx:
    """A PBX that has followed the page, and the folder where the page's commands for it are run."""

    def __init__(self, asterisk: asterisk.Asterisk, folder: Path) -> None:
        self.asterisk = asterisk
        self.shell = Scratch(folder)
        wrapper = folder / "asterisk"
        wrapper.write_text(f'#!/bin/sh\nexec {shlex.join(asterisk.command)} "$@"\n')
        wrapper.chmod(0o755)
        self.shell.environment["PATH"] = f"{folder}:{self.shell.environment['PATH']}"

    def add(self, name: str, text: str) -> None:
        """Adds to one of its files."""
        with (self.asterisk.folder / name).open("a") as file:
            file.write(text)

    async def cli(self, command: str) -> str:
        return await self.asterisk.cli(command)

    async def call(self, number: str, script: str, context: str = "from-alice") -> None:
        """Somebody who runs `script` calls `number`."""
        output = await self.cli(f"channel originate Local/{number}@{context}/n extension {script}@scripts")
        assert "Unable" not in output, output

    async def hang_up(self) -> None:
        await self.cli("channel request hangup all")

    async def outcome(self, number: str, context: str = "watched") -> str:
        """The DIALSTATUS of a call to `number`."""
        await self.call(number, "wait", context)

        async def told() -> bool:
            return bool(await self.asterisk.variable("OUTCOME"))

        await becomes(told)
        return await self.asterisk.variable("OUTCOME")

    async def ringing_at(self, phone: str) -> bool:
        """True while there is a call to `phone`."""
        return f"PJSIP/{phone}-" in await self.cli("core show channels concise")

    async def idle(self) -> None:
        """Waits until no call is left."""

        async def condition() -> bool:
            return await self.asterisk.channels() == 0

        await becomes(condition)

    def heard(self) -> Samples:
        """What the script `tone` or `wait` has recorded of the other side."""
        return read_wav(self.asterisk.out / "heard.wav")


@asynccontextmanager
async def pbx(folder: Path, pjsip: Callable[[str], str] = str, trunk: str = "Avail") -> AsyncIterator[Pbx]:
    """A PBX with the page's files, loaded by the page's commands, whose trunk is as `trunk` says.

    `pjsip` changes the page's pjsip.conf.
    """
    async with asterisk.running("", SCRIPTS, pjsip=BASE.replace("@TRANSPORT@", "transport-udp")) as running:
        pbx = Pbx(running, folder)
        files = PAGE.files("pbx")
        pbx.add("pjsip.conf", pjsip(files["pjsip.conf"]))
        pbx.add("extensions.conf", files["extensions.conf"])
        load, *_ = PAGE.commands("pbx")
        await asyncio.to_thread(follow, load, pbx.shell)
        await becomes(lambda: shows(pbx, trunk))
        yield pbx
        await pbx.hang_up()
        await pbx.idle()


async def shows(pbx: Pbx, trunk: str) -> bool:
    """True where the trunk's contact is `Avail` or `Unavail`."""
    return f" {trunk} " in await pbx.cli("pjsip show aor voxtrunk")


async def becomes(condition: Callable[[], Awaitable[bool]], seconds: float = 15) -> None:
    """Waits until `condition` holds."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.1)


async def next_record(site: Site, before: int) -> CallRecord:
    """The record after the first `before` ones."""

    async def written() -> bool:
        return len(site.records) > before

    await becomes(written)
    return site.records[before]


def read_wav(path: Path) -> Samples:
    """One channel of 8 kHz."""
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels()) == (8000, 1)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def caller_of(path: Path) -> Samples:
    """What the agent heard, of voxtrunk's recording."""
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)[:, 0]


def speaks(samples: Samples) -> bool:
    """Whether there is a second of speech level in it."""
    return level_db(samples) > -45


# --------------------------------------------------------------------------------------- the page


def test_every_block_is_used() -> None:
    """But for the picture at the top."""
    marks = [block.mark.partition(":")[0] for block in PAGE.blocks]
    assert set(marks) == {"site", "site run", "site up", "pbx", "pbx run", "freepbx"}
    unmarked = [block for block in all_blocks(PAGE.path) if not block.mark]
    assert len(unmarked) == 1
    assert unmarked[0].line < PAGE.blocks[0].line


async def test_the_trunk_is_available_and_the_commands_print_what_is_shown(site: Site, tmp_path: Path) -> None:
    before = len(site.records)
    async with pbx(tmp_path) as stand:
        _, *look = PAGE.commands("pbx")
        for block in look:
            await asyncio.to_thread(follow, block, stand.shell)
        await stand.call("7001", "tone")
        await asyncio.sleep(1)
        await stand.hang_up()
        await next_record(site, before)
        await asyncio.to_thread(site.look)


# --------------------------------------------------------------------------------------- answered


async def test_the_agent_greets_and_hears_and_the_caller_hangs_up(site: Site, tmp_path: Path) -> None:
    before = len(site.records)
    async with pbx(tmp_path) as stand:
        await stand.call("7000", "tone")
        await asyncio.sleep(4)
        await stand.hang_up()
        record = await next_record(site, before)
        heard = stand.heard()
    assert (record.disposition.value, record.ended_by.value, record.called) == ("answered", "caller", "7000")
    assert (record.calling, record.asserted) == ("1001", "1001")
    assert speaks(heard[8000:24000])
    assert hears(caller_of(site.recording(record))[8000:16000], 1004)


async def test_the_echo_returns_the_callers_voice(site: Site, tmp_path: Path) -> None:
    before = len(site.records)
    async with pbx(tmp_path) as stand:
        await stand.call("7001", "tone")
        await asyncio.sleep(3)
        await stand.hang_up()
        await next_record(site, before)
        heard = stand.heard()
    assert hears(heard[12000:16000], 1004)


async def test_the_agent_hangs_up_after_a_key(site: Site, tmp_path: Path) -> None:
    before = len(site.records)
    async with pbx(tmp_path) as stand:
        await stand.call("7000", "goodbye")
        record = await next_record(site, before)
        await stand.idle()
    assert (record.disposition.value, record.ended_by.value) == ("answered", "agent")
    assert [turn.intent for turn in record.turns][-1] == "goodbye"


async def test_keys_both_ways(site: Site, tmp_path: Path) -> None:
    async with pbx(tmp_path) as stand:
        await stand.call("7002", "keys", "watched")

        async def pressed() -> bool:
            return await stand.asterisk.variable("KEYS") == "42"

        await becomes(pressed, 20)


async def test_the_caller_gives_up_while_it_rings(site: Site, tmp_path: Path) -> None:
    before = len(site.records)
    async with pbx(tmp_path) as stand:
        site.freeze("serve")
        try:
            await stand.call("7000", "wait")
            await asyncio.sleep(0.5)
            await stand.hang_up()
            await stand.idle()
        finally:
            site.thaw("serve")
        record = await next_record(site, before)
    assert record.disposition.value == "cancelled"


@pytest.mark.skipif(baresip.missing_reason() is not None, reason=str(baresip.missing_reason()))
async def test_hold_and_resume_by_the_callers_phone(site: Site, tmp_path: Path) -> None:
    before = len(site.records)
    async with pbx(tmp_path), baresip.running(user="1001") as phone:
        await phone.command("dial", f"sip:7001@{PBX}")
        await phone.wait_for("CALL_ESTABLISHED")
        await asyncio.sleep(1.0)
        await phone.command("hold")
        await asyncio.sleep(2.0)
        await phone.command("resume")
        await asyncio.sleep(4.0)
        await phone.command("hangup")
        await phone.wait_for("CALL_CLOSED")
        record = await next_record(site, before)
        # The phone begins a new file with each re-INVITE: this is what it heard after the last one.
        heard = await asyncio.to_thread(read_wav, phone.heard())
    offers = [step.note for step in record.signalling if step.message == "INVITE" and not step.sent]
    assert any("sendonly" in note for note in offers)
    assert any(hears(heard[start : start + 800], 1000) for start in range(0, len(heard) - 800, 800))


# --------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("number", "context", "outcome"), [("7999", "watched", "CHANUNAVAIL"), ("7000", "strange", "CHANUNAVAIL")]
)
async def test_an_unknown_number_and_a_strange_pbx_are_refused(
    site: Site, tmp_path: Path, number: str, context: str, outcome: str
) -> None:
    """404, 403."""
    async with pbx(tmp_path) as stand:
        assert await stand.outcome(number, context) == outcome


async def test_a_codec_that_nobody_knows_is_refused(site: Site, tmp_path: Path) -> None:
    """488, where the trunk allows no codec of the page."""
    async with pbx(tmp_path, lambda text: text.replace("allow = alaw,ulaw", "allow = lpc10")) as stand:
        assert await stand.outcome("7000") == "CHANUNAVAIL"
    assert "status=488" in site.log


async def test_people_answer_what_the_agent_cannot(site: Site, tmp_path: Path) -> None:
    """503: the connector does not answer any more."""
    async with pbx(tmp_path) as stand, sipp.answering("uas", port=PEOPLE[1]):
        site.freeze("serve")
        try:
            await asyncio.sleep(4)
            await stand.call("7000", "wait")
            await becomes(lambda: stand.ringing_at("2000"), 5)
            assert await stand.outcome("7000") == "CONGESTION"
        finally:
            site.thaw("serve")
        await stand.hang_up()
    await asyncio.sleep(2)


async def test_people_answer_when_the_machine_is_down(tmp_path: Path) -> None:
    with network.inside(PBX, STRANGER):
        async with pbx(tmp_path, trunk="Unavail") as stand, sipp.answering("uas", port=PEOPLE[1]):
            assert await stand.outcome("7000") == "CHANUNAVAIL"
            await stand.call("7000", "wait")
            await becomes(lambda: stand.ringing_at("2000"), 5)
            await stand.hang_up()


# --------------------------------------------------------------------------------------- transferred, forwarded


async def test_the_agent_transfers_to_an_extension(site: Site, tmp_path: Path) -> None:
    before = len(site.records)
    async with pbx(tmp_path) as stand, sipp.answering("uas", port=PEOPLE[1]):
        await stand.call("7000", "operator")
        record = await next_record(site, before)
        assert await stand.ringing_at("2000")
        assert not await stand.ringing_at("voxtrunk")
        await stand.hang_up()
    assert (record.ended_by.value, record.reason) == ("agent", "transferred")


async def test_a_busy_extension_is_the_pbxs_business(site: Site, tmp_path: Path) -> None:
    """486, of the transfer's target: the caller is where the dialplan leads, and we talk to nobody any more."""
    before = len(site.records)
    async with pbx(tmp_path) as stand, sipp.answering("refuses", port=PEOPLE[1], status="486 Busy Here"):
        await stand.call("7000", "operator")

        async def told() -> bool:
            return "error=486 the transfer's target did not answer" in site.log

        await becomes(told)
        await asyncio.to_thread(site.scratch.run, "voxtrunk calls hangup --all --yes")
        record = await next_record(site, before)
        await stand.idle()
    assert record.errors == ["CallFailed: 486 the transfer's target did not answer"]


async def test_a_transfer_that_the_pbx_refuses_gives_the_caller_back(site: Site, tmp_path: Path) -> None:
    before = len(site.records)
    async with pbx(tmp_path) as stand:
        await stand.call("7003", "operator", "watched")
        await asyncio.sleep(10)
        assert await stand.ringing_at("voxtrunk")
        await stand.hang_up()
        record = await next_record(site, before)
    assert record.ended_by.value == "caller"
    assert any("404" in error for error in record.errors), record.errors


async def test_a_forwarded_call_tells_who_was_called_before(site: Site, tmp_path: Path) -> None:
    before = len(site.records)
    async with pbx(tmp_path) as stand:
        await stand.call("2001", "wait")
        await asyncio.sleep(1)
        await stand.hang_up()
        record = await next_record(site, before)
    assert [(one.number, one.reason) for one in record.diversions] == [("2001", "no-answer")]
    assert (record.called, record.calling) == ("7000", "1001")


# --------------------------------------------------------------------------------------- FreePBX


async def test_what_freepbx_writes_makes_the_same_trunk(site: Site, tmp_path: Path) -> None:
    """Its menus are not run here; the files that they lead to are."""
    files = PAGE.files("freepbx")
    dialplan = files["extensions_custom.conf"] + PAGE.files("pbx")["extensions.conf"].partition("[from-voxtrunk]")[0]
    pjsip = "".join(text for name, text in files.items() if name.startswith("pjsip"))
    base = BASE.replace("@TRANSPORT@", "0.0.0.0-udp")
    before = len(site.records)
    internal = "[from-internal]\ninclude => internal\n"
    async with asterisk.running("", SCRIPTS + internal + dialplan, pjsip=base + pjsip) as running:
        stand = Pbx(running, tmp_path)
        await becomes(lambda: shows(stand, "Avail"))
        async with sipp.answering("uas", port=PEOPLE[1]):
            await stand.call("7000", "operator")
            record = await next_record(site, before)
            assert await stand.ringing_at("2000")
            await stand.hang_up()
            await stand.idle()
    assert (record.asserted, record.reason) == ("1001", "transferred")
