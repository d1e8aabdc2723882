"""A real baresip (Debian's package) as a phone, driven over its ctrl_tcp module.

It says a WAV file and records what it hears.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import tempfile
import wave
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from connector.audio import Audio, Samples
from connector.sip.message import host_of
from tests.e2e.opensips import free_port

MODULES = Path("/usr/lib/baresip/modules")


def missing_reason() -> str | None:
    """Why there is no baresip here, for a visible skip; None where there is one."""
    if shutil.which("baresip") and (MODULES / "ctrl_tcp.so").exists():
        return None
    return "no baresip: apt-get install baresip-core baresip-ffmpeg"


@dataclass
class Baresip:
    """One phone. `events` grows with what baresip reports (its own event types, CALL_ESTABLISHED...)."""

    folder: Path
    sip_port: int
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter
    events: list[dict[str, Any]] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def command(self, name: str, parameters: str = "") -> None:
        """Sends one of baresip's commands (`dial`, `hangup`, `hold`, `resume`, `sndcode`...)."""
        text = json.dumps({"command": name, "params": parameters, "token": name})
        self._writer.write(f"{len(text)}:{text},".encode())
        await self._writer.drain()

    async def wait_for(self, kind: str, seconds: float = 10.0) -> dict[str, Any]:
        """Waits for an event of type `kind` and returns it."""

        def found() -> dict[str, Any] | None:
            return next((event for event in self.events if event.get("type") == kind), None)

        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(found)
        event = found()
        assert event is not None
        return event

    async def read(self) -> None:
        """Collects events until the connection closes (netstrings of JSON)."""
        while True:
            try:
                length = int((await self._reader.readuntil(b":"))[:-1])
                body = json.loads(await self._reader.readexactly(length))
                await self._reader.readexactly(1)
            except asyncio.IncompleteReadError:
                return
            async with self._changed:
                self.events.append(body)
                self._changed.notify_all()

    def heard(self) -> Path:
        """WAV of what the phone received (complete once the call is over)."""
        return max(self.folder.glob("dump-*-dec.wav"))


def _tone(hertz: float, seconds: float, rate: int) -> Samples:
    time = np.arange(int(seconds * rate)) / rate
    return (8000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16)


@asynccontextmanager
async def running(
    speech: Audio | None = None,
    *,
    user: str = "baresip",
    account: str = "",
    modules: Sequence[str] = (),
    rate: int = 8000,
    address: str = "127.0.0.1",
) -> AsyncIterator[Baresip]:
    """Runs baresip at `address` of loopback as `user`. It says `speech` (at `rate`), or a tone of 1000 Hz for a minute.

    `account`: parameters of its account, such as `;audio_codecs=G722/16000/1`; `modules`: those that they need.
    """
    folder = Path(tempfile.mkdtemp(prefix="voxtrunk-baresip-"))
    sip_port, control = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
    rtp = 20_000 + 2 * (sip_port % 4_000)
    with wave.open(str(folder / "speech.wav"), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((speech.samples if speech else _tone(1000.0, 60.0, rate)).tobytes())
    loaded = [*modules, "account.so", "menu.so", "ctrl_tcp.so", "g711.so", "aufile.so", "aubridge.so", "sndfile.so"]
    (folder / "config").write_text(
        "\n".join(
            [
                f"sip_listen {host_of(address)}:{sip_port}",
                f"rtp_ports {rtp}-{rtp + 100}",
                "call_max_calls 4",
                f"audio_source aufile,{folder / 'speech.wav'}",
                "audio_player aubridge,sink",
                "audio_alert aubridge,alert",
                "audio_txmode thread",
                f"ausrc_srate {rate}",
                f"auplay_srate {rate}",
                "ausrc_channels 1",
                "auplay_channels 1",
                f"net_interface {address}",
                f"ctrl_tcp_listen 127.0.0.1:{control}",
                f"snd_path {folder}",
                f"module_path {MODULES}",
                *(f"module {name}" for name in loaded if name not in ("account.so", "menu.so", "ctrl_tcp.so")),
                "module_app account.so",
                "module_app menu.so",
                "module_app ctrl_tcp.so",
            ]
        )
        + "\n"
    )
    (folder / "accounts").write_text(f"<sip:{user}@{host_of(address)}>;regint=0{account}\n")
    log = (folder / "console").open("wb")
    family = "-6" if ":" in address else "-4"
    process = await asyncio.create_subprocess_exec(
        "baresip", family, "-f", str(folder), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
    )
    reading: asyncio.Task[None] | None = None
    writer: asyncio.StreamWriter | None = None
    try:
        for _ in range(100):
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", control)
                break
            except OSError:
                assert process.returncode is None, (folder / "console").read_text()
                await asyncio.sleep(0.05)
        else:
            raise AssertionError((folder / "console").read_text())
        phone = Baresip(folder, sip_port, reader, writer)
        reading = asyncio.create_task(phone.read())
        yield phone
    finally:
        if writer is not None:
            writer.close()
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 5)
            except TimeoutError:
                process.kill()
                await process.wait()
        if reading is not None:
            await reading
        log.close()
        shutil.rmtree(folder, ignore_errors=True)
