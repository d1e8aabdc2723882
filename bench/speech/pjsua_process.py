"""A call of pjsua2 whose time is the trace's: what it plays of the packets that it is given.

In: a JSON list on stdin, an item per tick of 20 ms: the packets that come before it, base64. Out: what
pjsua2 plays, int16 at 8 kHz, on stdout.

It is the whole user agent: it dials, is answered, and takes RTP from a UDP socket on loopback; jitter
buffer, concealment and conference bridge are as they come. Only the sound device is missing, whose
clock the bridge would run by: here each tick pulls a frame once its packets have been received, so a
minute takes a second and the machine's own delays take no part.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import re
import socket
import sys
import time
from typing import Any

import pjsua2 as pj

RATE = 8000
FRAME_BYTES = 2 * RATE // 50
PATIENCE = 10.0
"""Seconds until an answer or a packet must have come."""
WARM_UP = 10
"""Ticks before the first packet: the bridge connects its ports in its own time."""


class Frame(ctypes.Structure):
    """pjmedia_frame (pjmedia/frame.h)."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buf", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("timestamp", ctypes.c_uint64),
        ("bit_info", ctypes.c_uint32),
    )


class Call(pj.Call):  # type: ignore[misc]  # pjsua2 has no types
    """Plays what it hears."""

    connected = False

    def onCallMediaState(self, prm: object) -> None:  # noqa: N802 - pjsua2's name
        playback = pj.Endpoint.instance().audDevManager().getPlaybackDevMedia()
        self.getAudioMedia(0).startTransmit(playback)
        self.connected = True

    def received(self) -> int:
        """RTP packets so far."""
        statistics = self.getStreamStat(0)  # kept: its members do not keep it alive
        return int(statistics.rtcp.rxStat.pkt)


class Answerer:
    """The other end: answers the call with PCMU, and sends the packets."""

    def __init__(self) -> None:
        self._sip, self.rtp = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for one in (self._sip, self.rtp):
            one.bind(("127.0.0.1", 0))
        self._sip.setblocking(False)
        self.uri = f"sip:bench@127.0.0.1:{self._sip.getsockname()[1]}"
        self.far: tuple[str, int] | None = None
        """Where it takes RTP, from its INVITE."""

    def serve(self) -> None:
        """Answers what has come."""
        try:
            data, source = self._sip.recvfrom(65536)
        except BlockingIOError:
            return
        request = data.decode()
        if not request.startswith("INVITE "):
            return
        offered = re.search(r"^m=audio (\d+)", request, re.MULTILINE)
        assert offered
        self.far = "127.0.0.1", int(offered[1])
        copied = re.findall(r"^(?:Via|From|Call-ID|CSeq):.*\r\n", request, re.MULTILINE | re.IGNORECASE)
        to = re.search(r"^To:.*(?=\r\n)", request, re.MULTILINE | re.IGNORECASE)
        assert to
        body = (
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            f"m=audio {self.rtp.getsockname()[1]} RTP/AVP 0\r\na=ptime:20\r\n"
        )
        head = (
            f"SIP/2.0 200 OK\r\n{''.join(copied)}{to[0]};tag=1\r\nContact: <{self.uri}>\r\n"
            f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._sip.sendto((head + body).encode(), source)


class UserAgent:
    """pjsua2, in one thread: it does nothing unless asked to."""

    def __init__(self) -> None:
        self._endpoint = pj.Endpoint()
        self._endpoint.libCreate()
        config = pj.EpConfig()
        config.logConfig.level = config.logConfig.consoleLevel = 1
        config.uaConfig.threadCnt = 0
        config.uaConfig.mainThreadOnly = True
        # RTP is read where SIP is: by `handle`.
        config.medConfig.hasIoqueue = False
        config.medConfig.threadCnt = 0
        # The bridge at the codec's rate spares it a conversion to 16 kHz and back.
        config.medConfig.clockRate = config.medConfig.sndClockRate = RATE
        config.medConfig.audioFramePtime = 20
        self._endpoint.libInit(config)
        transport = pj.TransportConfig()
        transport.boundAddress = "127.0.0.1"
        self._endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
        self._endpoint.libStart()
        for codec in self._endpoint.codecEnum2():
            self._endpoint.codecSetPriority(codec.codecId, 255 if codec.codecId.startswith("PCMU/") else 0)
        self._bridge = int(self._endpoint.audDevManager().setNoDev())
        self._get_frame = ctypes.CDLL(pj._pjsua2.__file__).pjmedia_port_get_frame
        self._get_frame.argtypes = ctypes.c_void_p, ctypes.c_void_p
        self._buffer = ctypes.create_string_buffer(FRAME_BYTES)

    def dial(self, uri: str) -> Call:
        """Begins the one call."""
        config = pj.AccountConfig()
        config.idUri = "sip:phone@127.0.0.1"
        config.regConfig.registerOnAdd = False
        config.mediaConfig.transportConfig.boundAddress = "127.0.0.1"
        self._account = pj.Account()
        self._account.create(config)
        self._call = Call(self._account)
        parameters = pj.CallOpParam(True)
        parameters.opt.videoCount = parameters.opt.textCount = 0
        self._call.makeCall(uri, parameters)
        return self._call

    def handle(self) -> None:
        """Serves its sockets and timers."""
        self._endpoint.libHandleEvents(0)

    def pull(self) -> bytes:
        """The next 20 ms that the sound device would play."""
        frame = Frame(buf=ctypes.addressof(self._buffer), size=FRAME_BYTES)
        status = self._get_frame(self._bridge, ctypes.byref(frame))
        assert status == 0
        return self._buffer.raw if frame.type == pj.PJMEDIA_FRAME_TYPE_AUDIO else bytes(FRAME_BYTES)


def play(answerer: Answerer, agent: UserAgent, ticks: list[list[str]]) -> bytes:
    """What is heard of the packets in a call."""
    call = agent.dial(answerer.uri)
    until(lambda: call.connected, answerer, agent)
    assert answerer.far
    for _ in range(WARM_UP):
        agent.handle()
        agent.pull()
    heard, sent = [], 0
    for packets in ticks:
        for packet in packets:
            answerer.rtp.sendto(base64.b64decode(packet), answerer.far)
            sent += 1
        until(lambda expected=sent: call.received() >= expected, answerer, agent)
        heard.append(agent.pull())
    return b"".join(heard)


def until(reached: Any, answerer: Answerer, agent: UserAgent) -> None:
    """Serves both ends until `reached()`."""
    deadline = time.monotonic() + PATIENCE
    while not reached():
        agent.handle()
        answerer.serve()
        assert time.monotonic() < deadline, "no answer, or a packet was lost on loopback"


def main() -> None:
    # pjlib prints to file descriptor 1 from C: it gets stderr, the samples keep the pipe.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answerer, agent = Answerer(), UserAgent()
    output.write(play(answerer, agent, json.load(sys.stdin)))
    output.close()
    # Of a call that is over, pjsua2's destructors fail an assertion: no object of it is let go.
    os._exit(0)


if __name__ == "__main__":
    main()
