"""The service over HTTP, with a checkpoint that faster-whisper loads in a process of its own."""

from __future__ import annotations

import asyncio
import io
import multiprocessing
import os
import signal
import sys
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from fakes import whisper

from connector.audio import Audio
from connector.errors import EngineRefused
from connector.host import LocalEngineHost
from connector.interfaces import EngineContext, SpeechToText
from flavors.engines import openai_transcriptions
from serving import HEARD, Service, StartService, noise, wav


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Waits for what is going to happen."""
    async with asyncio.timeout(20):
        while not await true():  # noqa: ASYNC110 - it is told by HTTP alone
            await asyncio.sleep(0.01)


async def test_transcripts_in_every_format(service: Service) -> None:
    assert await service.transcribe(wav(1.0), model="whisper-1") == (200, {"text": HEARD})
    assert await service.transcribe(wav(1.0), model="micro", response_format="text") == (200, f"{HEARD}\n")
    status, answer = await service.transcribe(
        wav(1.0), model="micro", response_format="verbose_json", language="en-US", temperature="0.0"
    )
    assert status == 200
    [segment] = answer.pop("segments")
    assert answer == {"task": "transcribe", "language": "en", "duration": 1.0, "text": HEARD}
    assert (segment["start"], segment["end"], segment["text"]) == (0, 1, HEARD)
    assert segment["avg_logprob"] == pytest.approx(0, abs=1e-3)
    assert len(segment["tokens"]) == len(f" {HEARD}")
    assert segment["no_speech_prob"] < 0.1


async def test_long_recordings_have_a_segment_for_each_window_and_a_language_that_is_heard(service: Service) -> None:
    _, answer = await service.transcribe(wav(65.0), response_format="verbose_json")
    assert answer["language"] == "de"
    assert answer["duration"] == 65
    assert answer["text"] == " ".join([HEARD] * 3)
    starts, ends = zip(*((segment["start"], segment["end"]) for segment in answer["segments"]), strict=True)
    assert (starts[0], ends[-1]) == (0, 65)
    assert starts[1:] == ends[:-1]


async def test_silence_is_no_words(service: Service) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 8000, 0, "NONE", ""))
        writer.writeframes(bytes(16000))
    _, answer = await service.transcribe(file.getvalue(), response_format="verbose_json")
    assert (answer["text"], answer["segments"]) == ("", [])


async def test_requests_of_many_clients_share_batches(service: Service) -> None:
    answers = await asyncio.gather(*(service.transcribe(wav(1.0)) for _ in range(24)))
    assert answers == [(200, {"text": HEARD})] * 24
    assert await service.metric("whisper_utterances_total") == 24
    assert await service.metric("whisper_batches_total") < 24
    assert await service.metric('whisper_requests_total{outcome="recognised"}') == 24
    assert await service.metric("whisper_active_requests") == 0


@pytest.mark.parametrize(
    ("file", "fields", "status", "message"),
    [
        (wav(1.0), {"model": "whisper-9"}, 404, "the model 'whisper-9' is not served here, but micro"),
        (wav(1.0), {"language": "xx"}, 400, "does not know the language 'xx'; it knows"),
        (wav(1.0), {"temperature": "warm"}, 400, "temperature: "),
        (b"no audio", {}, 400, "no audio"),
        (wav(3.0), {}, 413, "more than 2 seconds"),
    ],
)
async def test_a_wrong_request_is_told_what_would_be_right(
    start: StartService, file: bytes, fields: dict[str, str], status: int, message: str
) -> None:
    service = await start(max_seconds=2)
    answer = await service.transcribe(file, **fields)
    assert answer[0] == status
    assert message in answer[1]["error"]["message"]
    assert await service.metric('whisper_requests_total{outcome="invalid"}') == 1
    assert (await service.transcribe(wav(1.0)))[0] == 200


async def test_a_form_without_a_file_and_no_form(service: Service) -> None:
    url = f"{service.url}/v1/audio/transcriptions"
    async with service.session.post(url, data={"model": "whisper-1"}) as response:
        assert response.status == 415
    async with service.session.post(url, data=b"", headers={"Content-Type": "multipart/form-data"}) as response:
        assert response.status == 400
    assert (await service.get("/v1/audio/transcriptions"))[0] == 405
    assert (await service.get("/v2"))[0] == 404


@pytest.mark.parametrize(
    "part",
    [
        b"no form at all",
        b"--b\r\nContent-Disposition: form-data; name=file\r\n\r\ncut off",
        b"--b\r\nno header\r\n\r\nwe open\r\n--b--\r\n",
        b"--b\r\nX: " + b"x" * 20_000 + b"\r\n\r\nwe open\r\n--b--\r\n",
        b"--b\r\nContent-Disposition: form-data; name=model\r\n\r\n\xff\xfe\r\n--b--\r\n",
    ],
    ids=["none", "cut off", "no header", "long header", "no UTF-8"],
)
async def test_a_broken_form_is_the_clients_fault(service: Service, part: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    url = f"{service.url}/v1/audio/transcriptions"
    async with service.session.post(url, data=part, headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["error"]["message"].startswith("the form is broken: ")
    assert await service.metric('whisper_requests_total{outcome="invalid"}') == 1


@pytest.mark.parametrize(
    ("name", "parts", "status", "message"),
    [("x", 33, 413, "more than 32 parts"), ("x", 20_000, 413, "more than 32 parts"), ("file", 2, 400, "than one file")],
)
async def test_a_form_of_many_parts_is_not_kept(
    service: Service, name: str, parts: int, status: int, message: str
) -> None:
    part = f"--b\r\nContent-Disposition: form-data; name={name}\r\n\r\n".encode() + b"x" * 8000 + b"\r\n"

    async def body() -> AsyncIterator[bytes]:
        for _ in range(parts):
            yield part
        yield b"--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    url = f"{service.url}/v1/audio/transcriptions"
    async with service.session.post(url, data=body(), headers=headers) as response:
        assert response.status == status
        assert message in (await response.json())["error"]["message"]
    assert await service.metric("whisper_active_requests") == 0


async def test_who_dawdles_loses_the_place(start: StartService) -> None:
    service = await start(queue=1, upload_seconds=0.2)

    async def body() -> AsyncIterator[bytes]:
        yield b"--b\r\nContent-Disposition: form-data; name=file; filename=a.wav\r\n\r\n"
        await asyncio.Event().wait()

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    url = f"{service.url}/v1/audio/transcriptions"
    async with service.session.post(url, data=body(), headers=headers) as response:
        assert response.status == 408
        assert (await response.json())["error"]["code"] == "upload_timeout"
    assert (await service.transcribe(wav(1.0)))[0] == 200
    assert await service.metric('whisper_requests_total{outcome="invalid"}') == 1


async def test_health_readiness_and_models(start: StartService) -> None:
    service = await start(load=False)
    assert await service.get("/healthz") == (200, {"alive": True})
    assert await service.get("/readyz") == (503, {"ready": False, "problem": "the model is being loaded"})
    status, answer = await service.transcribe(wav(1.0))
    assert (status, answer["error"]["code"]) == (503, "not_ready")
    await service.server.load()
    assert await service.get("/readyz") == (200, {"ready": True, "problem": ""})
    _, models = await service.get("/v1/models")
    assert [model["id"] for model in models["data"]] == ["micro"]


async def test_the_token_is_asked_for(start: StartService) -> None:
    service = await start(token="s3cret")
    assert (await service.transcribe(wav(1.0)))[0] == 401
    assert (await service.transcribe(wav(1.0), {"Authorization": "Bearer wrong"}))[0] == 401
    assert (await service.get("/metrics"))[0] == 401
    assert (await service.get("/readyz"))[0] == 200
    assert await service.transcribe(wav(1.0), {"Authorization": "Bearer s3cret"}) == (200, {"text": HEARD})


async def test_web_pages_are_not_served(service: Service) -> None:
    assert (await service.transcribe(wav(1.0), {"Origin": "https://example.org"}))[0] == 403
    assert (await service.get("/v1/models", headers={"Host": "rebound.example"}))[0] == 403


async def test_beyond_the_capacity_clients_are_told_when_to_come_back(start: StartService) -> None:
    service = await start(queue=1)
    url = f"{service.url}/v1/audio/transcriptions"
    goes_on = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"--b\r\nContent-Disposition: form-data; name=file; filename=a.wav\r\n\r\n"
        await goes_on.wait()
        yield wav(1.0) + b"\r\n--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    slow = asyncio.create_task(service.session.post(url, data=body(), headers=headers))
    await until(lambda: _equals(service, "whisper_active_requests", 1))
    async with service.session.post(url, data=wav(1.0), headers=headers) as response:
        assert response.status == 503
        assert int(response.headers["Retry-After"]) >= 1
    goes_on.set()
    assert await (await slow).json() == {"text": HEARD}
    assert (await service.transcribe(wav(1.0)))[0] == 200


async def test_a_client_that_goes_leaves_the_queue(start: StartService) -> None:
    service = await start(max_batch=1)
    [process] = multiprocessing.active_children()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        stays = asyncio.create_task(service.transcribe(wav(1.0)))
        await until(lambda: _equals(service, "whisper_active_requests", 1))
        goes = asyncio.create_task(service.transcribe(wav(1.1)))
        await until(lambda: _equals(service, "whisper_waiting_utterances", 1))
        goes.cancel()
        with suppress(asyncio.CancelledError):
            await goes
        await until(lambda: _equals(service, "whisper_waiting_utterances", 0))
        await until(lambda: _equals(service, "whisper_active_requests", 1))
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert await stays == (200, {"text": HEARD})
    assert await service.metric('whisper_requests_total{outcome="aborted"}') == 1


async def test_after_its_model_was_killed_the_service_recovers(service: Service) -> None:
    [process] = multiprocessing.active_children()
    process.kill()
    status, answer = await service.transcribe(wav(1.0))
    assert (status, answer["error"]["code"]) == (503, "recognition_failed")
    assert await service.transcribe(wav(1.0)) == (200, {"text": HEARD})


async def test_the_connectors_own_engine_understands_the_service(service: Service, tmp_path: Path) -> None:
    host = LocalEngineHost()

    async def engine(**options: Any) -> SpeechToText:
        descriptor = openai_transcriptions.descriptor
        chosen = descriptor.options.model_validate({"base_url": f"{service.url}/v1", "retries": 0, **options})
        made = await asyncio.to_thread(descriptor.load, chosen, EngineContext(host, tmp_path))
        assert isinstance(made, SpeechToText)
        return made

    english = await engine()
    await english.start()
    assert (await english.transcribe(Audio(noise(1.0), 8000))).text == HEARD
    await english.aclose()
    unknown = await engine(language="xx")
    with pytest.raises(EngineRefused, match="does not know the language"):
        await unknown.start()


async def test_the_command_serves_until_it_is_stopped_and_says_what_is_wrong(tmp_path: Path) -> None:
    model = await asyncio.to_thread(whisper.build, tmp_path / "micro", HEARD)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "whisper_service", "--port", "0", "--device", "cpu", "--cpu-threads", "1"]
    process = await asyncio.create_subprocess_exec(
        *command, "--model", str(model), stderr=asyncio.subprocess.PIPE, env=environment
    )
    assert process.stderr is not None
    try:
        port = ""
        async with asyncio.timeout(30):
            while b"ready" not in (line := await process.stderr.readline()):
                assert line
                port = line.decode().rpartition("port=")[2].strip() or port
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/readyz") as response:
            assert response.status == 200
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    process = await asyncio.create_subprocess_exec(
        *command, "--model", str(tmp_path), stderr=asyncio.subprocess.PIPE, env=environment
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert "is not a Whisper model for CTranslate2" in said.decode()


async def _equals(service: Service, metric: str, value: float) -> bool:
    return await service.metric(metric) == value
