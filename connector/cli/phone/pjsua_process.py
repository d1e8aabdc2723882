"""The pjsua2 phone's own process: one call, driven by JSON lines on stdin, reported by JSON lines on stdout.

pjsua2 keeps global state, carries at most four calls in a process's life and runs its audio from a
thread of its own; so each call gets a process, and what crosses its borders is this protocol:

| stdin `do` | with | stdout `event` | with |
| --- | --- | --- | --- |
| `dial` | `uri`, `calling`, `username`, `password` | `ready` | |
| `say` | `pcm`: base64 of int16 samples at 8 kHz | `answered` | `call_id`, `codec` |
| `dtmf` | `digits` (RFC 4733) | `said`, `heard` | `at`: monotonic seconds, `pcm`: a frame |
| `hold`, `resume`, `hangup` | | `media` | `state`: active, held (by us), on-hold (by them) |
| `transfer` | `target` | `digit` | `digit`, `seconds` |
| end of file: hang up | | `statistics` | each second: `sent`, `received`, `lost`, `jitter` in seconds |
| | | `ended` | `status`, `reason`, `here`: we hung up |
"""

from __future__ import annotations

import base64
import json
import os
import queue
import signal
import sys
import threading
import time
from typing import Any, TextIO

import pjsua2 as pj

RATE = 8000
FRAME_BYTES = 2 * RATE // 50
SILENCE = bytes(FRAME_BYTES)


class Wire:
    """The two JSON-lines pipes, each served by a thread, so that no audio callback waits for a reader."""

    def __init__(self, commands: TextIO, events: TextIO) -> None:
        self.commands: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, args=(events,), daemon=True)
        self._writer.start()
        threading.Thread(target=self._read, args=(commands,), daemon=True).start()

    def emit(self, event: str, **fields: object) -> None:
        self._events.put({"event": event, **fields})

    def close(self) -> None:
        """Returns once every event was written."""
        self._events.put(None)
        self._writer.join()

    def _read(self, stream: TextIO) -> None:
        for line in stream:
            self.commands.put(json.loads(line))
        self.commands.put(None)

    def _write(self, stream: TextIO) -> None:
        while (event := self._events.get()) is not None:
            stream.write(json.dumps(event) + "\n")
            stream.flush()


class Microphone(pj.AudioMediaPort):  # type: ignore[misc]  # pjsua2 has no types
    """Both ends of the sound device: what we say is pulled from it, what we hear is put into it, every 20 ms."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire
        self._speech = bytearray()
        self._lock = threading.Lock()
        audio = pj.MediaFormatAudio()
        audio.init(pj.PJMEDIA_FORMAT_PCM, RATE, 1, 20_000, 16)
        self.createPort("voxtrunk", audio)

    def say(self, pcm: bytes) -> None:
        with self._lock:
            self._speech += pcm

    def onFrameRequested(self, frame: Any) -> None:  # noqa: N802 - pjsua2's name
        with self._lock:
            pcm = bytes(self._speech[:FRAME_BYTES])
            del self._speech[:FRAME_BYTES]
        self._wire.emit("said", at=time.monotonic(), pcm=base64.b64encode(pcm).decode())
        frame.type = pj.PJMEDIA_FRAME_TYPE_AUDIO
        frame.buf = pj.ByteVector(pcm or SILENCE)
        frame.size = FRAME_BYTES

    def onFrameReceived(self, frame: Any) -> None:  # noqa: N802 - pjsua2's name
        if frame.type == pj.PJMEDIA_FRAME_TYPE_AUDIO:
            self._wire.emit("heard", at=time.monotonic(), pcm=base64.b64encode(bytes(frame.buf)).decode())


class Call(pj.Call):  # type: ignore[misc]  # pjsua2 has no types
    """The one call."""

    def __init__(self, account: Any, wire: Wire, microphone: Microphone) -> None:
        super().__init__(account)
        self._wire = wire
        self._microphone = microphone
        self.hung_up = False
        self.talking = False
        self.over = False

    def onCallState(self, prm: object) -> None:  # noqa: N802 - pjsua2's name
        info = self.getInfo()
        if info.state == pj.PJSIP_INV_STATE_CONFIRMED:
            self.talking = True
            self._wire.emit("answered", call_id=info.callIdString, codec=self.getStreamInfo(0).codecName)
        elif info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self.talking, self.over = False, True
            self._wire.emit("ended", status=info.lastStatusCode, reason=info.lastReason, here=self.hung_up)

    def report(self) -> None:
        """The counters of RTP and RTCP."""
        statistics = self.getStreamStat(0)  # kept: its members do not keep it alive
        sent, received = statistics.rtcp.txStat, statistics.rtcp.rxStat
        self._wire.emit(
            "statistics",
            sent=sent.pkt,
            received=received.pkt,
            lost=received.loss,
            jitter=received.jitterUsec.mean / 1e6,
        )

    def onCallMediaState(self, prm: object) -> None:  # noqa: N802 - pjsua2's name
        states = {
            pj.PJSUA_CALL_MEDIA_ACTIVE: "active",
            pj.PJSUA_CALL_MEDIA_LOCAL_HOLD: "held",
            pj.PJSUA_CALL_MEDIA_REMOTE_HOLD: "on-hold",
        }
        info = self.getInfo()  # kept: its members do not keep it alive
        for index, media in enumerate(info.media):
            if media.type != pj.PJMEDIA_TYPE_AUDIO or media.status not in states:
                continue
            if media.status != pj.PJSUA_CALL_MEDIA_LOCAL_HOLD:
                audio = self.getAudioMedia(index)
                self._microphone.startTransmit(audio)
                audio.startTransmit(self._microphone)
            self._wire.emit("media", state=states[media.status])

    def onDtmfDigit(self, prm: Any) -> None:  # noqa: N802 - pjsua2's name
        self._wire.emit("digit", digit=prm.digit, seconds=prm.duration / 1000)


class Process:
    """The user agent and its main loop."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._endpoint = pj.Endpoint()
        self._endpoint.libCreate()
        config = pj.EpConfig()
        config.logConfig.level = config.logConfig.consoleLevel = 1
        config.uaConfig.threadCnt = 0
        config.uaConfig.mainThreadOnly = True
        config.medConfig.clockRate = config.medConfig.sndClockRate = RATE
        config.medConfig.audioFramePtime = 20
        config.medConfig.ecTailLen = 0
        config.medConfig.noVad = True
        self._endpoint.libInit(config)
        self._endpoint.audDevManager().setNullDev()
        self._address = "127.0.0.1"
        self._account: Any = None
        self._call: Call | None = None

    def run(self) -> None:
        self._endpoint.libStart()
        for codec in self._endpoint.codecEnum2():
            self._endpoint.codecSetPriority(codec.codecId, 255 if codec.codecId.startswith(("PCMU/", "PCMA/")) else 0)
        self._wire.emit("ready")
        reported = time.monotonic()
        while True:
            self._endpoint.libHandleEvents(5)
            if self._call is not None and self._call.talking and time.monotonic() - reported >= 1:
                reported = time.monotonic()
                self._call.report()
            while not self._wire.commands.empty():
                command = self._wire.commands.get()
                if command is None:
                    self._quit()
                    return
                try:
                    self._do(command)
                except pj.Error as error:
                    self._wire.emit("error", do=command["do"], reason=error.reason)

    def _do(self, command: dict[str, Any]) -> None:
        if command["do"] == "dial":
            self._dial(**{key: value for key, value in command.items() if key != "do"})
            return
        call = self._call
        if call is None or call.over:
            return
        match command["do"]:
            case "say":
                self._microphone.say(base64.b64decode(command["pcm"]))
            case "dtmf":
                call.dialDtmf(command["digits"])
            case "hold":
                call.setHold(self._parameters())
            case "resume":
                parameters = self._parameters()
                parameters.opt.flag = pj.PJSUA_CALL_UNHOLD
                call.reinvite(parameters)
            case "transfer":
                call.xfer(command["target"], self._parameters())
            case "hangup":
                call.hung_up = True
                call.hangup(pj.CallOpParam())

    def _dial(self, uri: str, address: str, calling: str, username: str | None, password: str | None) -> None:
        transport = pj.TransportConfig()
        transport.boundAddress = transport.publicAddress = address
        self._endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
        account = self._account_config(calling, address)
        if username is not None:
            account.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", username, 0, password or ""))
        self._account = pj.Account()
        self._account.create(account)
        self._microphone = Microphone(self._wire)
        self._call = Call(self._account, self._wire, self._microphone)
        self._call.makeCall(uri, self._parameters())

    def _account_config(self, calling: str, address: str) -> Any:
        """Who `calling` is at `address`, and what its media is."""
        account = pj.AccountConfig()
        account.idUri = f"sip:{calling}@{address}"
        account.mediaConfig.transportConfig.boundAddress = address
        account.mediaConfig.transportConfig.publicAddress = address
        account.regConfig.registerOnAdd = False
        return account

    def _quit(self) -> None:
        if self._call is not None and not self._call.over:
            self._call.hung_up = True
            self._call.hangup(pj.CallOpParam())
            deadline = time.monotonic() + 2
            while not self._call.over and time.monotonic() < deadline:
                self._endpoint.libHandleEvents(5)

    @staticmethod
    def _parameters() -> Any:
        parameters = pj.CallOpParam(True)
        parameters.opt.videoCount = parameters.opt.textCount = 0
        return parameters


def main(kind: type[Process] = Process) -> None:
    """Serves one call."""
    # Ctrl-C reaches the whole group: the other side hangs up by closing the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # pjlib prints to file descriptor 1 from C: it gets stderr, the protocol keeps the pipe.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    wire = Wire(sys.stdin, events)
    process = kind(wire)
    process.run()
    wire.close()
    # Of a call that is over, pjsua2's destructors fail an assertion: no object of it is let go.
    os._exit(0)


if __name__ == "__main__":
    main()
