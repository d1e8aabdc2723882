"""The service as clients see it: OpenAI's own and others, over real HTTP."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import resource
import socket
import wave
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest
from numpy.typing import NDArray
from yarl import URL

from chatterbox_service.app import STOPPING, Server
from chatterbox_service.service import FAILURES
from chatterbox_service.settings import Settings
from tests.conftest import Running, Serve
from tests.fakes.engine import CLONE_TONE, RATE, SECONDS_PER_CHARACTER, TONES, ToneEngine
from tests.fakes.recordings import hum, recorded

TEXT = "Hello there."
SECONDS = len(TEXT) * SECONDS_PER_CHARACTER
NAMED, END = b"--b\r\nContent-Disposition: form-data; name=name", b"\r\n--b--\r\n"
"""Of a form whose boundary is `b`."""
LONG = " ".join(f"This is sentence number {number} of a long text." for number in range(30))


def samples_of(pcm: bytes) -> NDArray[np.float32]:
    return np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32767)


def pitch(pcm: bytes, rate: int) -> float:
    samples = samples_of(pcm)
    return float(np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * rate / len(samples))


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files of this process may have so many bytes at most, as where the disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def upload(running: Running, name: str | None = "maria", file: bytes | None = None, **fields: str) -> Any:
    form = aiohttp.FormData()
    if name is not None:
        form.add_field("name", name)
    form.add_field("audio_sample", hum() if file is None else file, filename="a.wav", content_type="audio/wav")
    for field, value in fields.items():
        form.add_field(field, value)
    async with running.http.post("/v1/voices", data=form) as response:
        return response.status, await response.json()


class TestSpeech:
    async def test_openais_client_gets_pcm(self, running: Running) -> None:
        answer = await running.openai.audio.speech.create(
            input=TEXT, model="chatterbox", voice="default", response_format="pcm"
        )
        assert len(answer.content) / 2 / RATE == pytest.approx(SECONDS)
        assert pitch(answer.content, RATE) == pytest.approx(TONES["default"], abs=2)

    async def test_openais_client_gets_audio_before_the_end_is_made(self, running: Running) -> None:
        running.engine.hold_after = 2
        async with running.openai.audio.speech.with_streaming_response.create(
            input=TEXT, model="tts-1", voice="default", response_format="pcm"
        ) as answer:
            assert answer.headers["Content-Type"].startswith("audio/pcm")
            body = answer.iter_bytes()
            heard = b""
            while len(heard) < 2 * 0.2 * RATE:
                heard += await anext(body)
            assert running.engine.active == 1, "the rest is still to be made"
            running.engine.released.set()
            heard += b"".join([piece async for piece in body])
        assert len(heard) / 2 / RATE == pytest.approx(SECONDS)

    @pytest.mark.parametrize("rate", [24000, 16000, 8000])
    async def test_rates(self, running: Running, rate: int) -> None:
        pcm = await running.speak(sample_rate=rate)
        assert len(pcm) / 2 / rate == pytest.approx(SECONDS, abs=0.001)
        assert pitch(pcm, rate) == pytest.approx(TONES["default"], abs=3)
        heard = samples_of(pcm)
        expected = 0.5 * np.sin(2 * np.pi * TONES["default"] * np.arange(len(heard)) / rate)
        assert np.abs(heard - expected)[50:-50].max() < 0.001, "no chunk's end is to be heard"

    async def test_openais_client_gets_a_wav_stream_where_it_names_no_format(self, running: Running) -> None:
        # OpenAI's own default is MP3, which is none of a telephone's.
        async with running.openai.audio.speech.with_streaming_response.create(
            input=TEXT, model="tts-1-hd", voice="default"
        ) as answer:
            file = await answer.read()
        assert file.startswith(b"RIFF")
        assert pitch(file[44:], RATE) == pytest.approx(TONES["default"], abs=2)

    @pytest.mark.parametrize("speed", [0.25, 0.5, 1.5, 4.0])
    async def test_speed_keeps_the_pitch(self, running: Running, speed: float) -> None:
        pcm = await running.speak(LONG[:200], speed=speed, sample_rate=8000)
        assert len(pcm) / 2 / 8000 == pytest.approx(200 * SECONDS_PER_CHARACTER / speed, rel=0.05)
        assert pitch(pcm, 8000) == pytest.approx(TONES["default"], abs=6)

    async def test_a_wav_stream_is_read_to_its_end(self, running: Running) -> None:
        async with running.http.post("/v1/audio/speech", json={"input": TEXT, "sample_rate": 8000}) as response:
            assert response.headers["Content-Type"] == "audio/wav"
            assert "Content-Length" not in response.headers
            file = await response.read()
        assert file[:4] + file[8:12] + file[36:40] == b"RIFFWAVEdata"
        assert file[40:44] == b"\xff\xff\xff\xff", "to the end of the stream"
        assert len(file[44:]) / 2 / 8000 == pytest.approx(SECONDS, abs=0.001)

    async def test_a_whole_wav_knows_its_length(self, running: Running) -> None:
        async with running.http.post("/v1/audio/speech", json={"input": TEXT, "stream": False}) as response:
            file = await response.read()
            assert int(response.headers["Content-Length"]) == len(file)
        with wave.open(io.BytesIO(file)) as sound:
            assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (RATE, 1, 2)
            assert sound.getnframes() / RATE == pytest.approx(SECONDS)

    async def test_what_the_engine_is_told(self, running: Running) -> None:
        await running.speak(
            "**Yes** 👍", voice={"id": "default"}, temperature=0.5, exaggeration=0.7, seed=3, language="de"
        )
        told = running.engine.requests[-1]
        assert (told.text, told.voice) == ("Yes.", "default")
        assert (told.temperature, told.exaggeration, told.seed, told.language) == (0.5, 0.7, 3, "de")

    async def test_long_text_is_spoken_in_order_and_without_a_gap(self, running: Running) -> None:
        pcm = await running.speak(LONG)
        pieces = [request.text for request in running.engine.requests]
        assert len(pieces) > 3
        assert " ".join(pieces) == LONG
        assert len(pcm) / 2 / RATE == pytest.approx(sum(map(len, pieces)) * SECONDS_PER_CHARACTER)

    async def test_the_next_piece_is_begun_while_the_listener_hears_the_one_before(self, running: Running) -> None:
        async with running.request(LONG) as response:
            await response.content.readexactly(2 * 100)
            # Nobody reads on; what was sent waits in buffers, some seconds of it.
            await running.engine.until_requested(2)

    async def test_an_engine_that_frees_places_late_is_asked_again(self, running: Running) -> None:
        running.engine.busy = 2
        assert len(await running.speak()) / 2 / RATE == pytest.approx(SECONDS)


class TestErrors:
    @pytest.mark.parametrize(
        ("fields", "status", "param", "told"),
        [
            ({"input": ""}, 400, "input", "nothing that can be spoken"),
            ({"input": "👍"}, 400, "input", "nothing that can be spoken"),
            ({"input": "x" * 4097}, 400, "input", "at most 4096 characters"),
            ({"input": None}, 400, "input", "valid string"),
            ({"voice": "nobody"}, 404, "voice", "there are default"),
            ({"voice": {"id": "nobody"}}, 404, "voice", "there are default"),
            ({"language": "xx"}, 400, "language", "no language xx"),
            ({"language": "english"}, 400, "language", "match pattern"),
            ({"model": "gpt-9"}, 404, "model", "there are chatterbox, chatterbox-turbo"),
            ({"response_format": "mp3"}, 400, "response_format", "'pcm' or 'wav'"),
            ({"sample_rate": 44100}, 400, "sample_rate", "24000, 16000 or 8000"),
            ({"speed": 9}, 400, "speed", "less than or equal to 4"),
            ({"speed": 0.2}, 400, "speed", "greater than or equal to 0.25"),
            ({"speed": "NaN"}, 400, "speed", "speed: "),
            ({"temperature": 0}, 400, "temperature", "greater than 0"),
            ({"exaggeration": 3}, 400, "exaggeration", "less than or equal to 2"),
            ({"stream_format": "sse"}, 400, "stream_format", "'audio'"),
            ({"instructions": "whisper"}, 400, "instructions", "not permitted"),
        ],
    )
    async def test_what_is_wrong_is_said_in_openais_shape(
        self, running: Running, fields: dict[str, Any], status: int, param: str, told: str
    ) -> None:
        async with running.http.post("/v1/audio/speech", json={"input": TEXT} | fields) as response:
            assert response.status == status
            error = (await response.json())["error"]
        assert error["type"] == "invalid_request_error"
        assert error["param"] == param
        assert told in error["message"]
        assert await running.metric('chatterbox_requests_total{outcome="invalid"}') == 1

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"[]", b"\xff\xfe", b'"text"', b"[" * 100_000, b'{"input": "\\ud800"}', b'{"input": "\xe4"}'],
        ids=["nothing", "cut off", "list", "no text", "string", "deep", "half a character", "Latin-1"],
    )
    async def test_a_body_that_is_no_json_object(self, running: Running, body: bytes) -> None:
        async with running.http.post("/v1/audio/speech", data=body) as response:
            assert response.status == 400
            assert (await response.json())["error"]["message"].startswith("body: ")

    @pytest.mark.parametrize("unsupported", ["mp3", "opus", "aac", "flac"])
    async def test_formats_that_are_not_served_are_refused_with_those_that_are(
        self, running: Running, unsupported: Any
    ) -> None:
        with pytest.raises(openai.BadRequestError, match="response_format: Input should be 'pcm' or 'wav'"):
            async with running.openai.audio.speech.with_streaming_response.create(
                input=TEXT, model="tts-1", voice="default", response_format=unsupported
            ):
                pass

    @pytest.mark.parametrize(
        ("method", "path", "status"), [("GET", "/v1/elsewhere", 404), ("GET", "/v1/audio/speech", 405)]
    )
    async def test_unknown_paths_and_methods(self, running: Running, method: str, path: str, status: int) -> None:
        async with running.http.request(method, path) as response:
            assert response.status == status
            assert path in (await response.json())["error"]["message"]

    async def test_openais_client_raises_its_own_errors(self, running: Running) -> None:
        with pytest.raises(openai.NotFoundError, match="there are default"):
            await running.openai.audio.speech.create(input=TEXT, model="chatterbox", voice="nobody")
        with pytest.raises(openai.BadRequestError, match="nothing that can be spoken"):
            await running.openai.audio.speech.create(input="***", model="chatterbox", voice="default")

    async def test_a_failure_before_the_first_audio_is_a_500(self, running: Running) -> None:
        running.engine.fail_after = 0
        with pytest.raises(openai.InternalServerError, match="the tone broke"):
            await running.openai.audio.speech.create(input=TEXT, model="chatterbox", voice="default")
        assert await running.metric('chatterbox_requests_total{outcome="failed"}') == 1

    async def test_a_text_that_the_engine_finds_no_word_in_is_no_failure_of_the_engine(self, running: Running) -> None:
        running.engine.wordless = TEXT
        for _ in range(FAILURES):
            with pytest.raises(openai.BadRequestError, match="neither letter nor digit"):
                await running.openai.audio.speech.create(input=TEXT, model="chatterbox", voice="default")
        async with running.http.get("/readyz") as response:
            assert response.status == 200
        assert await running.metric('chatterbox_requests_total{outcome="invalid"}') == FAILURES

    async def test_a_failure_in_mid_stream_is_not_taken_for_the_end(self, running: Running) -> None:
        running.engine.fail_after = 3
        with pytest.raises(aiohttp.ClientPayloadError):
            await running.speak()
        assert await running.metric('chatterbox_requests_total{outcome="failed"}') == 1

    async def test_where_all_requests_fail_it_is_not_ready_until_one_is_spoken(self, running: Running) -> None:
        async def readiness() -> tuple[int, str]:
            async with running.http.get("/readyz") as response:
                return response.status, (await response.json())["problem"]

        running.engine.fail_after = 0
        for _ in range(FAILURES):
            assert await readiness() == (200, "")
            async with running.request() as response:
                assert response.status == 500
        assert await readiness() == (503, "the last 5 requests failed")
        running.engine.fail_after = None
        await running.speak()
        assert await readiness() == (200, "")


class TestOverload:
    async def test_beyond_the_capacity_and_the_queue_a_client_is_told_when_to_come_back(self, serve: Serve) -> None:
        engine = ToneEngine(capacity=2)
        engine.hold_after = 1
        running = await serve(engine, queue=1, wait=60)
        held = [asyncio.create_task(running.speak()) for _ in range(3)]
        await engine.until_active(2)
        await running.until("chatterbox_waiting_requests", 1)
        async with running.request() as response:
            assert response.status == 503
            assert int(response.headers["Retry-After"]) >= 1
            error = (await response.json())["error"]
        assert (error["type"], error["code"]) == ("server_error", "overloaded")
        engine.released.set()
        lengths = {len(pcm) for pcm in await asyncio.gather(*held)}
        assert lengths == {2 * round(SECONDS * RATE)}, "those who were let in, and who waited, hear everything"
        assert await running.metric('chatterbox_requests_total{outcome="refused"}') == 1
        assert await running.metric('chatterbox_requests_total{outcome="spoken"}') == 3

    async def test_patience_has_an_end(self, serve: Serve) -> None:
        engine = ToneEngine(capacity=1)
        engine.hold_after = 1
        running = await serve(engine, wait=0.02)
        held = asyncio.create_task(running.speak())
        await engine.until_active(1)
        async with running.request() as response:
            assert response.status == 503
        engine.released.set()
        await held

    async def test_openais_client_comes_back_by_itself(self, serve: Serve) -> None:
        running = await serve(ToneEngine(capacity=1), queue=0)
        running.engine.hold_after = 1
        held = asyncio.create_task(running.speak())
        await running.engine.until_active(1)
        patient = running.openai.with_options(max_retries=4)
        asked = asyncio.create_task(
            patient.audio.speech.create(input=TEXT, model="chatterbox", voice="default", response_format="pcm")
        )
        await running.until('chatterbox_requests_total{outcome="refused"}', 1)
        running.engine.released.set()
        await held
        assert len((await asked).content) == 2 * round(SECONDS * RATE)


class TestDisconnection:
    async def test_a_client_that_goes_frees_its_place(self, running: Running) -> None:
        running.engine.hold_after = 2
        async with running.request() as response:
            await response.content.readexactly(100)
            assert running.engine.active == 1
            response.close()
        await running.engine.until_active(0)
        assert await running.metric('chatterbox_requests_total{outcome="aborted"}') == 1
        assert await running.metric("chatterbox_active_streams") == 0

    async def test_a_client_that_goes_before_the_first_audio_frees_its_place(self, running: Running) -> None:
        running.engine.hold_after = 0
        asking = asyncio.create_task(running.speak())
        await running.engine.until_active(1)
        asking.cancel()
        await running.engine.until_active(0)
        await running.until('chatterbox_requests_total{outcome="aborted"}', 1)

    async def test_a_client_that_takes_nothing_any_more_frees_its_place(self, serve: Serve) -> None:
        running = await serve(stall=0.1)
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.setblocking(False)
        url = URL(running.url)
        await asyncio.get_running_loop().sock_connect(small, (url.host, url.port))
        body = json.dumps({"input": "word " * 800})
        head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: {len(body)}\r\n\r\n"
        with small:
            await asyncio.get_running_loop().sock_sendall(small, (head + body).encode())
            await running.engine.until_active(1)
            await running.until('chatterbox_requests_total{outcome="aborted"}', 1)
        assert running.engine.active == 0

    async def test_a_client_that_goes_while_it_waits_leaves_the_queue(self, serve: Serve) -> None:
        running = await serve(ToneEngine(capacity=1), wait=60)
        running.engine.hold_after = 1
        first = asyncio.create_task(running.speak())
        await running.engine.until_active(1)
        second = asyncio.create_task(running.speak())
        await running.until("chatterbox_waiting_requests", 1)
        second.cancel()
        await running.until("chatterbox_waiting_requests", 0)
        running.engine.released.set()
        await first
        assert len(running.engine.requests) == 1

    async def test_a_thousand_requests_leave_nothing_behind(self, serve: Serve) -> None:
        running = await serve(ToneEngine(capacity=8), wait=60, queue=64)

        async def one(number: int) -> None:
            aborts = number % 10 == 0
            try:
                async with asyncio.timeout(60), running.request(LONG[:60], sample_rate=8000) as response:
                    await response.content.readexactly(100)
                    if aborts:
                        response.close()
                    else:
                        await response.read()
            except aiohttp.ClientError:
                assert aborts

        async def many(numbers: range) -> None:
            for begin in range(numbers.start, numbers.stop, 20):
                await asyncio.gather(*map(one, range(begin, begin + 20)))
            await running.until("chatterbox_active_streams", 0)

        await many(range(200))
        gc.collect()
        before = await running.metric("process_resident_memory_bytes"), await running.metric("process_open_fds")
        tasks = len(asyncio.all_tasks())
        await many(range(200, 1200))
        gc.collect()
        after = await running.metric("process_resident_memory_bytes"), await running.metric("process_open_fds")
        assert running.engine.active == 0
        assert len(asyncio.all_tasks()) <= tasks + 20, "of kept connections, at most"
        assert after[1] <= before[1] + 40
        assert after[0] < before[0] + 8e6
        over = [
            await running.metric(f'chatterbox_requests_total{{outcome="{outcome}"}}')
            for outcome in ("spoken", "aborted", "failed", "refused")
        ]
        assert sum(over) == 1200
        assert over[2:] == [0, 0]


class TestVoices:
    async def test_a_voice_is_cloned_heard_listed_and_deleted(self, running: Running, tmp_path: Path) -> None:
        made = await running.openai.audio.voices.create(
            name="María García", audio_sample=("maria.wav", hum()), consent="cons_1"
        )
        assert (made.id, made.object, made.name) == ("maria-garcia", "audio.voice", "maria-garcia")
        samples, rate = running.engine.clones["maria-garcia"]
        assert (len(samples), rate) == (6 * 24000, 24000)
        assert (tmp_path / "voices" / "maria-garcia.wav").exists()
        spoken = await running.openai.audio.speech.create(
            input=TEXT, model="chatterbox", voice=made.id, response_format="pcm"
        )
        assert pitch(spoken.content, RATE) == pytest.approx(CLONE_TONE, abs=2)
        for path in ("/v1/voices", "/v1/audio/voices"):
            async with running.http.get(path) as response:
                answer = await response.json()
            assert [(one["id"], one["cloned"]) for one in answer["data"]] == [("default", False), (made.id, True)]
            assert answer["voices"] == answer["data"]
        gone = await running.openai.audio.voices.delete(made.id)
        assert gone.deleted
        assert running.engine.clones == {}
        assert list((tmp_path / "voices").iterdir()) == []
        with pytest.raises(openai.NotFoundError):
            await running.openai.audio.speech.create(input=TEXT, model="chatterbox", voice=made.id)

    async def test_voices_are_there_after_a_restart(self, serve: Serve) -> None:
        first = await serve()
        await upload(first)
        await first.server.aclose()
        again = await serve()
        assert list(again.engine.clones) == ["maria"]

    @pytest.mark.parametrize(
        ("name", "file", "status", "param", "told"),
        [
            (None, None, 400, "name", "what the voice is to be called"),
            ("../etc/passwd", None, 400, "name", "such as maria-garcia"),
            ("default", None, 409, "name", "came with the model"),
            ("maria", b"junk", 400, "audio_sample", "no WAV, FLAC, Ogg or MP3"),
            ("maria", hum(seconds=1), 400, "audio_sample", "lasts 1.0 s; it should last 5 s or more"),
            ("maria", b"", 400, "audio_sample", "no WAV, FLAC, Ogg or MP3"),
            ("maria", hum()[:44], 400, "audio_sample", "holds no audio"),
            ("maria", hum(level=0.001), 400, "audio_sample", "dBFS"),
            ("maria", hum(rate=8000), 400, "audio_sample", "8000 Hz"),
        ],
    )
    async def test_what_cannot_be_cloned_is_refused_with_the_reason(
        self, running: Running, tmp_path: Path, name: str | None, file: bytes | None, status: int, param: str, told: str
    ) -> None:
        answered, answer = await upload(running, name, file)
        assert answered == status
        assert answer["error"]["param"] == param
        assert told in answer["error"]["message"]
        assert running.engine.clones == {}
        assert not (tmp_path / "voices").exists()

    async def test_a_voice_is_replaced_only_on_request(self, running: Running) -> None:
        assert (await upload(running))[0] == 201
        status, answer = await upload(running, file=hum(seconds=7))
        assert (status, answer["error"]["code"]) == (409, "voice_exists")
        assert (await upload(running, file=hum(seconds=7), overwrite="true"))[0] == 201
        assert len(running.engine.clones["maria"][0]) == 7 * 24000

    async def test_a_form_without_a_recording_or_of_another_kind(self, running: Running) -> None:
        async with running.http.post("/v1/voices", json={"name": "maria"}) as response:
            assert response.status == 415
        form = aiohttp.FormData({"name": "maria"}, default_to_multipart=True)
        async with running.http.post("/v1/voices", data=form) as response:
            assert response.status == 400
            assert (await response.json())["error"]["param"] == "audio_sample"

    @pytest.mark.parametrize("mebibytes", [21, 300])
    async def test_an_upload_that_is_too_large(self, running: Running, mebibytes: int) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"--b\r\nContent-Disposition: form-data; name=audio_sample; filename=a.wav\r\n\r\n"
            block = bytes(1024 * 1024)
            for _ in range(mebibytes):
                yield block
            yield END

        before = await running.metric("process_resident_memory_bytes")
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        async with running.http.post("/v1/voices", data=body(), headers=headers) as response:
            assert response.status == 413
            assert "20 MiB" in (await response.json())["error"]["message"]
        assert await running.metric("process_resident_memory_bytes") < before + 50e6

    @pytest.mark.parametrize(
        "part",
        [
            b"no form at all",
            NAMED + b"\r\n\r\nmaria",
            b"--b\r\nno header\r\n\r\nmaria" + END,
            NAMED + b"\r\nX: " + b"x" * 20_000 + b"\r\n\r\nmaria" + END,
            NAMED + b"\r\n\r\n\xff\xfe" + END,
            NAMED + b"\r\nContent-Type: text/plain; charset=x\r\n\r\nmaria" + END,
            NAMED + b"\r\nContent-Transfer-Encoding: x\r\n\r\nmaria" + END,
        ],
        ids=["none", "cut off", "no header", "long header", "no UTF-8", "unknown charset", "unknown encoding"],
    )
    async def test_a_broken_form_is_the_clients_fault(self, running: Running, part: bytes) -> None:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        async with running.http.post("/v1/voices", data=part, headers=headers) as response:
            assert response.status == 400
            assert (await response.json())["error"]["message"].startswith("the form is broken: ")

    @pytest.mark.parametrize(
        ("container", "codec", "rate", "layout"),
        [
            ("mp3", "libmp3lame", 24000, "mono"),
            ("flac", "flac", 48000, "mono"),
            ("ogg", "libopus", 48000, "mono"),
            ("wav", "pcm_u8", 24000, "mono"),
            ("wav", "pcm_s16le", 44100, "stereo"),
            ("wav", "pcm_f32le", 16000, "mono"),
        ],
    )
    async def test_recordings_of_usual_formats_are_cloned(
        self, running: Running, container: str, codec: str, rate: int, layout: str
    ) -> None:
        tone = (0.3 * np.sin(np.arange(6 * rate) / 20)).astype(np.float32)
        assert (await upload(running, file=recorded(tone, rate, container, codec, layout)))[0] == 201
        samples, cloned_at = running.engine.clones["maria"]
        assert cloned_at == rate
        assert len(samples) / rate == pytest.approx(6, abs=0.15)
        assert 0.2 < np.abs(samples).max() < 0.35

    async def test_of_uploads_under_one_name_at_once_one_is_the_voice(self, running: Running) -> None:
        answers = await asyncio.gather(*(upload(running, file=hum(seconds=5 + n)) for n in range(6)))
        assert sorted(status for status, _ in answers) == [201, 409, 409, 409, 409, 409]
        [made] = [n for n, (status, _) in enumerate(answers) if status == 201]
        assert len(running.engine.clones["maria"][0]) == (5 + made) * 24000

    async def test_who_speaks_with_a_voice_is_not_cut_off_where_it_is_replaced_or_deleted(
        self, running: Running
    ) -> None:
        await upload(running)
        running.engine.hold_after = 1
        speaking = asyncio.create_task(running.speak(voice="maria"))
        await running.engine.until_active(1)
        assert (await upload(running, file=hum(seconds=7), overwrite="true"))[0] == 201
        await running.openai.audio.voices.delete("maria")
        running.engine.released.set()
        pcm = await speaking
        assert len(pcm) == 2 * round(SECONDS * RATE)
        assert pitch(pcm, RATE) == pytest.approx(CLONE_TONE, abs=2)
        with pytest.raises(openai.NotFoundError, match="there are default"):
            await running.openai.audio.speech.create(input=TEXT, model="chatterbox", voice="maria")

    @pytest.mark.parametrize(("name", "status"), [("nobody", 404), ("default", 409), ("..%2Fx", 404)])
    async def test_what_cannot_be_deleted(self, running: Running, name: str, status: int) -> None:
        async with running.http.delete(f"/v1/voices/{name}") as response:
            assert response.status == status
            assert (await response.json())["error"]["message"]

    async def test_a_voice_that_cannot_be_written_is_not_kept(self, serve: Serve, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("no folder")
        running = await serve(voices=tmp_path / "file")
        status, answer = await upload(running)
        assert status == 500
        assert "could not be kept" in answer["error"]["message"]
        assert running.engine.clones == {}

    async def test_a_voice_stays_where_another_cannot_be_written_in_its_place(
        self, running: Running, tmp_path: Path
    ) -> None:
        assert (await upload(running))[0] == 201
        tone = (0.3 * np.sin(np.arange(7 * 24000) / 20)).astype(np.float32)
        mp3 = recorded(tone, 24000, "mp3", "libmp3lame")
        with largest_file(200_000):  # What is uploaded is less, what would be kept is more.
            status, answer = await upload(running, file=mp3, overwrite="true")
        assert (status, answer["error"]["type"]) == (500, "server_error")
        assert len(running.engine.clones["maria"][0]) == 6 * 24000
        assert [path.name for path in (tmp_path / "voices").iterdir()] == ["maria.wav"]

    async def test_a_failure_to_clone_is_the_engines_and_leaves_the_voice_as_it_was(self, running: Running) -> None:
        assert (await upload(running))[0] == 201
        running.engine.out_of_memory = True
        status, answer = await upload(running, file=hum(seconds=7), overwrite="true")
        assert (status, answer["error"]["code"]) == (500, "cloning_failed")
        assert "out of memory" in answer["error"]["message"]
        assert len(running.engine.clones["maria"][0]) == 6 * 24000


class TestOperation:
    async def test_models(self, running: Running) -> None:
        models = await running.openai.models.list()
        assert [model.id for model in models.data] == ["chatterbox", "chatterbox-turbo"]

    async def test_readiness_follows_the_engine(self, tmp_path: Path) -> None:
        server = Server(Settings(port=0, voices=tmp_path, drain=0.1))
        await server.start()
        may_load = asyncio.Event()

        async def open_engine() -> ToneEngine:
            await may_load.wait()
            return ToneEngine(capacity=3)

        loading = asyncio.create_task(server.load(open_engine))
        host, port = server.address
        async with aiohttp.ClientSession(f"http://{host}:{port}") as http:
            async with http.get("/healthz") as response:
                assert response.status == 200
            async with http.get("/readyz") as response:
                assert response.status == 503
                assert (await response.json())["problem"] == "the model is being loaded"
            for path in ("/v1/models", "/v1/voices"):
                async with http.get(path) as response:
                    assert response.status == 503
                    assert response.headers["Retry-After"] == "5"
            async with http.post("/v1/audio/speech", json={"input": TEXT}) as response:
                assert response.status == 503
                assert (await response.json())["error"]["code"] == "not_ready"
            may_load.set()
            await loading
            async with http.get("/readyz") as response:
                assert response.status == 200
                ready = await response.json()
            assert (ready["ready"], ready["capacity"], ready["model"]) == (True, 3, "turbo")
            server.service.detach(STOPPING)
            async with http.get("/readyz") as response:
                assert (response.status, (await response.json())["problem"]) == (503, STOPPING)
        await server.aclose()

    async def test_streams_end_before_the_service_does(self, serve: Serve) -> None:
        running = await serve(drain=30)
        running.engine.hold_after = 1
        speaking = asyncio.create_task(running.speak())
        await running.engine.until_active(1)
        stopping = asyncio.create_task(running.server.aclose())
        await asyncio.sleep(0)
        assert running.server.service.problem == STOPPING
        assert not running.engine.over
        running.engine.released.set()
        assert len(await speaking) == 2 * round(SECONDS * RATE)
        await running.http.close()
        await stopping
        assert running.engine.over

    async def test_metrics_of_a_request(self, running: Running) -> None:
        await running.speak()
        assert await running.metric("chatterbox_first_audio_seconds_count") == 1
        assert await running.metric("chatterbox_real_time_factor_count") == 1
        assert await running.metric("chatterbox_audio_seconds_total") == pytest.approx(SECONDS)
        assert await running.metric("chatterbox_characters_total") == len(TEXT)
        assert await running.metric("chatterbox_capacity_streams") == 4

    async def test_a_token_guards_everything_but_health(self, serve: Serve) -> None:
        running = await serve(token="secret")
        assert (await running.openai.models.list()).data
        assert await running.speak()
        async with aiohttp.ClientSession(running.url) as stranger:
            for path in ("/v1/models", "/v1/voices", "/metrics", "/v1/audio/speech"):
                async with stranger.get(path) as response:
                    assert response.status == 401
                    assert response.headers["WWW-Authenticate"] == "Bearer"
            for path in ("/healthz", "/readyz"):
                async with stranger.get(path) as response:
                    assert response.status == 200
        with pytest.raises(openai.AuthenticationError, match="a bearer token is needed"):
            await running.openai.with_options(api_key="wrong").models.list()

    async def test_no_web_page_speaks_or_reads_by_way_of_a_browser(self, running: Running) -> None:
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            async with running.http.post("/v1/audio/speech", json={"input": TEXT}, headers=headers) as response:
                assert response.status == 403
        async with running.http.get("/v1/voices", headers={"Host": "evil.example:8001"}) as response:
            assert response.status == 403

    async def test_names_are_answered_where_the_operator_opened_the_port(self, serve: Serve) -> None:
        running = await serve(open=True)
        async with running.http.get("/v1/voices", headers={"Host": "chatterbox:8001"}) as response:
            assert response.status == 200

    @pytest.mark.parametrize("asked", [False, True])
    async def test_logs_hold_the_text_only_where_asked(
        self, serve: Serve, caplog: pytest.LogCaptureFixture, asked: bool
    ) -> None:
        running = await serve(log_text=asked)
        with caplog.at_level(logging.DEBUG, logger="chatterbox_service"):
            await running.speak("My number is 555.")
        assert ("555" in caplog.text) is asked
        assert "outcome=spoken" in caplog.text
