"""A real Asterisk as a peer: a PBX that trunks extensions to voxtrunk over loopback.

It is Debian's package, either installed on the machine or in a folder of Debian unstable
(`scripts/asterisk-root FOLDER` makes one), found through $VOXTRUNK_ASTERISK_ROOT or in the cache
folder. In a folder it runs by chroot, so root is needed there.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent

PHONE_PASSWORD = "not-a-secret"
"""Digest password of the phone `alice`; the phone `baresip` needs none."""

DEFAULT_ROOT = Path.home() / ".cache/voxtrunk/asterisk-root"


def installation() -> tuple[Path, list[str]] | None:
    """Root folder of the installation and the command prefix that enters it; None where there is none."""
    if shutil.which("asterisk"):
        return Path("/"), []
    root = Path(os.environ.get("VOXTRUNK_ASTERISK_ROOT", DEFAULT_ROOT))
    if (root / "usr/sbin/asterisk").exists() and os.geteuid() == 0:
        return root, ["chroot", str(root)]
    return None


def missing_reason() -> str:
    """Why there is no Asterisk here, for a visible skip."""
    return "no Asterisk: run scripts/asterisk-root as root (Debian unstable in a folder), or install asterisk"


def free_port() -> int:
    """A UDP port on loopback that nobody has bound."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Asterisk:
    """One running instance with a trunk named `voxtrunk`.

    `folder` is its working folder as seen from outside the chroot; recordings appear in
    `folder / "out"`.
    """

    def __init__(self, folder: Path, inside: Path, enter: list[str], sip_port: int) -> None:
        self.folder = folder
        self.sip_port = sip_port
        self._inside = inside
        self._enter = enter

    @property
    def command(self) -> Sequence[str]:
        """What runs `asterisk` so that it talks to this instance; its arguments follow."""
        return (*self._enter, "asterisk", "-C", str(self._inside / "asterisk.conf"))

    @property
    def out(self) -> Path:
        """Folder of the recordings."""
        return self.folder / "out"

    async def cli(self, command: str) -> str:
        """Runs a command of Asterisk's console and returns what it prints."""
        process = await asyncio.create_subprocess_exec(
            *self.command, "-rx", command,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        return output.decode(errors="replace")

    async def channels(self) -> int:
        """How many channels are up."""
        for line in (await self.cli("core show channels count")).splitlines():
            if "active channel" in line:
                return int(line.split()[0])
        return 0

    async def variable(self, name: str) -> str:
        """A global variable of the dialplan; empty where it was never set."""
        for line in (await self.cli("dialplan show globals")).splitlines():
            key, _, value = line.strip().partition("=")
            if key == name:
                return value
        return ""

    async def originate(self, number: str, script: str) -> None:
        """Calls `number` on the trunk; once answered, the channel runs extension `script` of the test dialplan."""
        output = await self.cli(f"channel originate PJSIP/{number}@voxtrunk extension {script}@scripts")
        assert "Unable" not in output, output


def _configuration(
    folder: Path, inside: Path, sip_port: int, rtp_first: int, trunk: str, auth: Mapping[str, str], dialplan: str
) -> None:
    files = {
        "asterisk.conf": f"""
            [directories]
            astetcdir => {inside}
            astrundir => {inside}/run
            astlogdir => {inside}/log
            astspooldir => {inside}/spool
            astdbdir => {inside}/db
            [options]
            nofork = yes
            entityid = 02:00:00:00:00:01
            """,
        "modules.conf": """
            [modules]
            autoload = yes
            noload = chan_iax2.so
            noload = chan_unistim.so
            noload = chan_skinny.so
            noload = chan_mgcp.so
            noload = chan_ooh323.so
            noload = chan_dahdi.so
            noload = pbx_dundi.so
            noload = res_phoneprov.so
            noload = res_pjsip_phoneprov_provider.so
            noload = cdr_radius.so
            noload = cel_radius.so
            noload = res_hep.so
            noload = res_http_media_cache.so
            """,
        "logger.conf": """
            [general]
            [logfiles]
            messages => notice,warning,error,verbose
            """,
        "rtp.conf": f"""
            [general]
            rtpstart = {rtp_first}
            rtpend = {rtp_first + 100}
            icesupport = no
            """,
        "pjsip.conf": f"""
            [global]
            type = global
            user_agent = Asterisk
            endpoint_identifier_order = username,ip
            [udp]
            type = transport
            protocol = udp
            bind = 127.0.0.1:{sip_port}
            [phone](!)
            type = endpoint
            transport = udp
            context = inbound
            disallow = all
            allow = ulaw,alaw
            direct_media = no
            dtmf_mode = rfc4733
            moh_passthrough = yes
            [voxtrunk]
            type = aor
            contact = sip:{trunk}
            qualify_frequency = 2
            [voxtrunk]
            type = endpoint
            transport = udp
            context = inbound
            disallow = all
            allow = ulaw,alaw
            aors = voxtrunk
            direct_media = no
            dtmf_mode = rfc4733
            moh_passthrough = yes
            allow_transfer = yes
            from_user = pbx
            {"outbound_auth = voxtrunk" if auth else ""}
            [baresip](phone)
            aors = baresip
            [baresip]
            type = aor
            [alice](phone)
            auth = alice
            [alice]
            type = auth
            auth_type = digest
            username = alice
            password = {PHONE_PASSWORD}
            [voxtrunk]
            type = identify
            endpoint = voxtrunk
            match = 127.0.0.1
            {"[voxtrunk]" if auth else ""}
            {"type = auth" if auth else ""}
            {"auth_type = digest" if auth else ""}
            {f"username = {auth['username']}" if auth else ""}
            {f"password = {auth['password']}" if auth else ""}
            """,
        "musiconhold.conf": """
            [default]
            mode = files
            directory = /tmp
            """,
        "extensions.conf": dialplan,
    }
    for name, text in files.items():
        lines = (line.strip() for line in dedent(text).splitlines())
        (folder / name).write_text("\n".join(line for line in lines if line) + "\n")
    for name in ("run", "log", "spool", "db", "out"):
        (folder / name).mkdir()


@asynccontextmanager
async def running(
    trunk: str, dialplan: str, *, auth: Mapping[str, str] | None = None, pjsip: str = ""
) -> AsyncIterator[Asterisk]:
    """Runs Asterisk with `trunk` (ADDRESS:PORT) as its peer and `dialplan` as extensions.conf.

    `dialplan` may use {out} for the folder of recordings and defines context `scripts`, and
    `inbound` where the peer calls or transfers. `pjsip`: the whole of pjsip.conf in place of the usual one.
    """
    found = installation()
    assert found is not None, missing_reason()
    root, enter = found
    folder = Path(tempfile.mkdtemp(prefix="voxtrunk-asterisk-", dir=root / "tmp"))
    inside = Path("/") / folder.relative_to(root)
    sip_port, rtp_first = free_port(), 30_000 + 2 * (free_port() % 5_000)
    _configuration(
        folder, inside, sip_port, rtp_first, trunk, auth or {}, dialplan.replace("{out}", str(inside / "out"))
    )
    if pjsip:
        (folder / "pjsip.conf").write_text(pjsip)
    log = (folder / "console").open("wb")
    process = await asyncio.create_subprocess_exec(
        *enter, "asterisk", "-f", "-C", str(inside / "asterisk.conf"), "-vvv",
        stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
    )  # fmt: skip
    asterisk = Asterisk(folder, inside, enter, sip_port)
    try:
        for _ in range(100):
            if "System uptime" in await asterisk.cli("core show uptime"):
                break
            assert process.returncode is None, (folder / "console").read_text()
            await asyncio.sleep(0.2)
        await asterisk.cli("core waitfullybooted")
        yield asterisk
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 5)
            except TimeoutError:
                process.kill()
                await process.wait()
        log.close()
        if not os.environ.get("VOXTRUNK_KEEP"):
            shutil.rmtree(folder, ignore_errors=True)
