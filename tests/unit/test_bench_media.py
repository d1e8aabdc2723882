"""`voxtrunk bench media`: whose voice is heard, how figures are taken from packets, and when a limit is missed."""

from __future__ import annotations

import json
import socket
import wave
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from connector.audio import Audio as Sound
from connector.audio import Samples
from connector.call.engines import load_in_thread
from connector.cli import app
from connector.cli.bench.media import voices, whisper
from connector.cli.bench.media.figures import (
    Audio,
    Churn,
    Cost,
    Limit,
    Line,
    Memory,
    Report,
    Residue,
    Spread,
    Step,
    ThreadShare,
    cost,
    growth,
)
from connector.cli.bench.media.generator import Caller, Received, heard, round_trips
from connector.cli.bench.media.processes import Thread, Usage
from connector.cli.bench.media.run import Options, limits, listen_to_recordings, roles
from connector.cli.bench.media.voices import Heard
from connector.codec.g711 import MuLaw
from connector.config import engine_descriptors
from connector.host import LocalEngineHost
from connector.interfaces import EngineContext, EngineDescriptor, SpeechToText

RATE = 8000
MS = 1_000_000
NOTHING = Spread(None, None, None, None)


# ------------------------------------------------------------------------------------------- voices


@pytest.mark.parametrize("callers", [1, 10, 100, voices.MOST_CALLERS])
def test_a_caller_knows_its_own_voice_and_every_other(callers: int) -> None:
    middle = callers // 2
    said = voices.voice(voices.hertz(middle, callers), RATE)
    assert voices.listen(said, RATE, voices.hertz(middle, callers)) == Heard(own=2)
    for other in {0, middle - 1, middle + 1, callers - 1} - {-1, middle, callers}:
        assert voices.listen(said, RATE, voices.hertz(other, callers)) == Heard(other=2)


def test_a_gap_does_not_make_a_voice_another_one() -> None:
    said = np.tile(voices.voice(1234, RATE), 4)
    said[5000:5160] = 0
    said[20_000:] = said[19_923:-77]  # its phase leaps
    found = voices.listen(said, RATE, 1234)
    assert found.own == 8
    assert found.other == 0


def test_silence_is_nobodys_voice_and_noise_no_callers() -> None:
    noise = np.random.default_rng(1).normal(0, 3000, RATE).astype(np.int16)
    assert voices.listen(np.zeros(RATE, np.int16), RATE, 400) == Heard(silent=2)
    assert voices.listen(noise, RATE, 400) == Heard(broken=2)


def test_each_g711_packet_tells_whose_it_is() -> None:
    said = [voices.payloads(voices.hertz(caller, 200), "PCMU") for caller in range(200)]
    owners = voices.owners(said)
    assert len(owners) > 0.999 * 200 * 50
    coder = MuLaw()
    for caller in (0, 77, 199):
        for payload in said[caller]:
            assert owners[coder.encode(coder.decode(payload))][0] == caller


@pytest.mark.parametrize("codec", ["PCMU", "PCMA", "G722"])
def test_every_codec_carries_a_second_of_voice(codec: str) -> None:
    assert len(voices.payloads(1000, codec)) == 50


# ------------------------------------------------------------------------------------------- packets


def received(*packets: tuple[float, int], ours: bool = False) -> Received:
    """Packets as (milliseconds, sequence number)."""
    at = np.array([round(ms * MS) for ms, _ in packets], np.int64)
    return Received(at, np.array([number for _, number in packets], np.int64), [b""] * len(packets), ours)


def test_pacing_is_the_deviation_from_20_ms_of_consecutive_packets() -> None:
    packets = received((0, 65_534), (21, 65_535), (40, 0), (100, 3), (120.5, 4))
    assert packets.deviations().tolist() == pytest.approx([1.0, 1.0, 0.5])
    assert packets.lost == 2
    assert packets.disordered == 0


def test_packets_that_come_twice_or_late_are_not_lost() -> None:
    packets = received((0, 1), (20, 2), (20.1, 2), (40, 4), (41, 3), (60, 5))
    assert packets.disordered == 2
    assert packets.lost == 2  # between 2 and 4, and between 3 and 5


def test_of_an_echo_the_generators_own_unevenness_is_subtracted() -> None:
    sent = [0, 25 * MS, 40 * MS, 70 * MS]
    packets = received((1, 0), (26, 1), (42, 2), (71, 3), ours=True)
    assert packets.deviations().tolist() == pytest.approx([5, 4, 9])
    assert packets.deviations_subtracted(sent).tolist() == pytest.approx([0, 1, 1])


def test_a_leg_sends_by_its_own_clock_and_nothing_is_subtracted() -> None:
    assert not len(received((0, 7), (20, 8)).deviations_subtracted([0]))


@pytest.fixture
def calling() -> Iterator[list[Caller]]:
    """Two callers who have spoken for a second."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    made = [
        Caller(each, voices.payloads(voices.hertz(number, 2), "PCMU"), number, 0, 160)
        for number, each in enumerate(sockets)
    ]
    for caller in made:
        caller.sent = [number * 20 * MS for number in range(50)]
    yield made
    for each in sockets:
        each.close()


def returned(payloads: Sequence[bytes], delay_ms: float) -> Received:
    at = np.array([round((number * 20 + delay_ms) * MS) for number in range(len(payloads))], np.int64)
    return Received(at, np.arange(len(payloads)), payloads, ours=False)


def test_a_caller_who_hears_itself_is_well(calling: list[Caller]) -> None:
    back = [returned(caller.says, 85) for caller in calling]
    audio = heard(calling, back, "PCMU")
    assert audio == Audio(Heard(own=4), {"own": 100, "other": 0, "silent": 0, "altered": 0}, deaf=0)
    trips = round_trips(calling, back, "PCMU")
    assert set(trips) == {85.0}


def test_a_single_packet_of_another_call_is_noticed(calling: list[Caller]) -> None:
    mixed = [*calling[0].says[:20], calling[1].says[20], *calling[0].says[21:]]
    audio = heard(calling, [returned(mixed, 0), returned(calling[1].says, 0)], "PCMU")
    assert audio.packets["other"] == 1


def test_crossed_and_silent_calls_are_noticed(calling: list[Caller]) -> None:
    silent = [MuLaw().encode(np.zeros(160, np.int16))] * 50
    audio = heard(calling, [returned(calling[1].says, 0), returned(silent, 0)], "PCMU")
    assert audio.windows == Heard(other=2, silent=2)
    assert audio.packets == {"own": 0, "other": 50, "silent": 50, "altered": 0}
    assert audio.deaf == 2


# ------------------------------------------------------------------------------------------- costs


def usage(at: float, **ran: float) -> Usage:
    """Threads 1 loop, 2 vad, 3 native, 4 of a disturbance on core 0."""
    numbers = {"loop": 1, "vad": 2, "native": 3, "disturbance": 4}
    threads = {
        numbers[name]: Thread("python", frozenset({0 if name == "disturbance" else 1}), seconds, seconds / 10)
        for name, seconds in ran.items()
    }
    return Usage(at, threads, sum(ran.values()), 0.0)


def test_cost_counts_every_thread_but_the_disturbances() -> None:
    before = usage(100.0, loop=1.0, vad=1.0, disturbance=5.0)
    after = usage(110.0, loop=5.0, vad=1.5, native=0.5, disturbance=14.0)
    found = cost(before, after, 100, {1: "loop", 2: "vad"}, 0, 2.0)
    assert found.per_call == 0.5
    assert [(share.role, share.ran) for share in found.threads] == [
        ("disturbance", 90.0),
        ("loop", 40.0),
        ("vad", 5.0),
        ("native (python)", 5.0),
    ]
    assert found.threads[1].waited == 4.0
    assert found.elsewhere == 20.0


def test_threads_are_told_by_what_they_are_for() -> None:
    names = {"10": "MainThread", "11": "engine-silero_0", "12": "voxtrunk-disk_0", "13": "Thread-1 (_monitor)"}
    assert roles(names) == {10: "loop", 11: "vad", 12: "disk", 13: "Thread-1 (_monitor)"}


# ------------------------------------------------------------------------------------------- limits


LINE = Line(
    pacing=Spread(0.1, 1.5, 3.0, 4.0),
    pacing_subtracted=NOTHING,
    late=Spread(0.0, 0.1, 0.5, 2.0),
    late_share=0.0,
    round_trip=NOTHING,
    sent=100,
    received=100,
    lost=0,
    disordered=0,
    audio=Audio(Heard(own=10), {"own": 100, "other": 0, "silent": 0, "altered": 0}, 0),
)

OPTIONS = Options(
    config=Path("voxtrunk.yml"), calls=100, seconds=30, settle=3, ramp=[10], codec="PCMU", vad=True, recording=True,
    disturb=[], churn=0, peers=True, cores=(1, 0), whisper=None, log=Path("/dev/null"),
    cpu=0.5, p99=2, p999=5, disturbed_p99=4, leak_kib=2,
)  # fmt: skip


def step(calls: int = 100, per_call: float = 0.4, line: Line = LINE, disturbance: str | None = None) -> Step:
    channel = asdict(Heard(own=60, silent=2))
    return Step(
        calls=calls,
        seconds=30.0,
        cost=Cost(per_call, 0.3, 0.1, [ThreadShare("loop", 30.0, 1.0)], 0.0),
        line=line,
        memory=Memory(100, 130, 101, 300),
        recordings={"files": calls, "caller": channel, "agent": channel},
        connector={},
        disturbance=None if disturbance is None else {"name": disturbance, "rounds": 3},
    )


def missed(found: Sequence[Limit]) -> list[str]:
    return [limit.name for limit in found if not limit.met]


def test_a_good_run_keeps_every_limit() -> None:
    residue = Residue(100_000, 12, 5, 3)
    churn = Churn(1000, 30.0, residue, residue, replace(residue, memory_kib=101_000), 1.0)
    assert missed(limits(OPTIONS, [step(10, 0.8), step()], [step(disturbance="whisper")], churn)) == []


def test_what_is_too_dear_or_too_uneven_is_missed() -> None:
    uneven = replace(LINE, pacing=Spread(0.1, 4.5, 5.5, 9.0))
    found = limits(OPTIONS, [step(per_call=0.6, line=uneven)], [step(line=uneven, disturbance="gc")], None)
    assert missed(found) == [
        "CPU per call, % of a core",
        "pacing p99, ms",
        "pacing p99.9, ms",
        "pacing p99 beside gc, ms",
    ]


def test_cost_per_call_may_not_grow_with_the_calls() -> None:
    assert growth([step(200, 0.36), step(10, 0.9), step(50, 0.45), step(100, 0.4)]) == 0.9
    assert missed(limits(OPTIONS, [step(10, 0.3), step(100, 0.4)], [], None)) == ["growth of cost per call"]
    assert growth([step()]) is None


def test_wrong_audio_lost_packets_and_leaks_are_missed() -> None:
    wrong = replace(LINE, lost=1, audio=Audio(Heard(own=9, other=1), {"own": 99, "other": 1}, 1))
    residue = Residue(100_000, 12, 5, 3)
    churn = Churn(1000, 30.0, residue, residue, Residue(105_000, 13, 6, 4), 5.0)
    assert missed(limits(OPTIONS, [step(line=wrong)], [], churn)) == [
        "packets lost",
        "audio of other calls",
        "calls without their own audio",
        "memory left per call, KiB",
        "files left",
        "threads left",
        "tasks left",
    ]


def test_the_report_is_one_json_object_with_its_verdict() -> None:
    report = Report({}, {}, {}, [step()], [], [], None, [Limit("x", 1, 2)], ["a note"])
    told = json.loads(json.dumps(report.as_json()))
    assert told["ok"] is False
    assert told["limits"] == [{"name": "x", "limit": 1, "measured": 2, "met": False}]
    assert told["steps"][0]["line"]["pacing"]["p99"] == 1.5
    assert Line.of_json(json.dumps(told["steps"][0]["line"])) == LINE


# ------------------------------------------------------------------------------------------- recordings


def record(folder: Path, port: int, left: Samples, right: Samples) -> None:
    """A call detail record and its recording, as the connector leaves them."""
    name = f"rtp-{port}.wav"
    with wave.open(str(folder / name), "wb") as file:
        file.setparams((2, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.column_stack([left, right]).astype("<i2").tobytes())
    told = {"call_id": f"rtp-{port}", "files": {"recording": name}}
    (folder / f"rtp-{port}.json").write_text(json.dumps(told))


def test_both_channels_of_every_recording_are_listened_to(tmp_path: Path) -> None:
    first, second = (voices.voice(voices.hertz(caller, 2), RATE) for caller in range(2))
    record(tmp_path, 20_000, first, np.zeros_like(first))
    record(tmp_path, 20_002, second, first)
    assert listen_to_recordings(tmp_path, [20_000, 20_002]) == {
        "files": 2,
        "caller": asdict(Heard(own=4)),
        "agent": asdict(Heard(other=2, silent=2)),
    }


# ------------------------------------------------------------------------------------------- the command


@pytest.mark.parametrize(
    "arguments",
    [("--ramp", "10,many"), ("--ramp", "100000"), ("--disturb", "thunder"), ("--calls", "0")],
)
def test_wrong_usage_is_told(arguments: tuple[str, str]) -> None:
    result = CliRunner().invoke(app, ["bench", "media", *arguments])
    assert result.exit_code == 2


def test_a_codec_that_we_do_not_speak_is_refused() -> None:
    result = CliRunner().invoke(app, ["bench", "media", "--codec", "GSM"])
    assert result.exit_code == 1
    assert "GSM" in result.output


# ------------------------------------------------------------------------------------------- Whisper


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    pytest.importorskip("faster_whisper")
    return whisper.build(tmp_path / "model", whisper.Size(1, 2, 64))


@pytest.fixture
def faster_whisper() -> EngineDescriptor:
    return engine_descriptors()["faster-whisper"]


async def test_the_built_checkpoint_takes_as_many_steps_as_speech_does(
    checkpoint: Path, faster_whisper: EngineDescriptor
) -> None:
    host = LocalEngineHost()
    options = faster_whisper.options.model_validate({"model": str(checkpoint), "device": "cpu", "cpu_threads": 1})
    engine = await load_in_thread(faster_whisper, options, EngineContext(host, checkpoint.parent))
    assert isinstance(engine, SpeechToText)
    try:
        await engine.start()
        heard = await engine.transcribe(Sound(np.full(RATE, 1000, np.int16), RATE))
    finally:
        await engine.aclose()
        await host.aclose()
    assert heard.text.count("token") == whisper.REPLY_TOKENS
