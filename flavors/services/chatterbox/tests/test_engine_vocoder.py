"""Audio in chunks is the audio of the whole, for each stream whoever else is rendered with it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tests import micro
from tests.micro import torch

KINDS = ["turbo", "standard"]


def make_vocoder(kind: str, attention: str = "cells") -> tuple[Any, Any]:
    """A vocoder, and the timbre of the built-in voice."""
    from chatterbox_service.vocoder import Timbre, Vocoder

    model = micro.model(kind)
    return Vocoder(model.s3gen, model.kind.flow_steps, attention), Timbre.of(model.builtin.gen, 2.0)


def rendered_whole(vocoder: Any, timbre: Any, tokens: list[int], seed: int = 5) -> np.ndarray:
    stream = vocoder.open(timbre, seed)
    stream.tokens += tokens
    chunks = []
    while True:
        job = stream.job(ended=True)
        chunks.append(vocoder.render([job])[0].numpy())
        if job.last:
            return np.concatenate(chunks)


def rendered_in_chunks(vocoder: Any, timbre: Any, tokens: list[int], seed: int = 5) -> list[np.ndarray]:
    """As soon as there is a cell."""
    stream = vocoder.open(timbre, seed)
    chunks = []
    for i, token in enumerate(tokens):
        stream.tokens.append(token)
        if job := stream.job(ended=i == len(tokens) - 1):
            chunks.append(vocoder.render([job])[0].numpy())
    return chunks


def crossfades(chunks: list[np.ndarray]) -> np.ndarray:
    """Where each chunk's held samples are faded: the beginning of every chunk but the first."""
    from chatterbox_service.vocoder import FRAME, HELD

    faded = np.zeros(sum(map(len, chunks)), bool)
    begin = 0
    for chunk, _ in pairwise(chunks):
        begin += len(chunk)
        faded[begin : begin + HELD * FRAME] = True
    return faded


@pytest.mark.parametrize("kind", [*KINDS, "multilingual"])
@pytest.mark.parametrize("count", [14, 60])
def test_chunks_are_the_whole_but_for_the_crossfades(kind: str, count: int) -> None:
    vocoder, timbre = make_vocoder(kind)
    tokens = micro.speech_tokens(count)
    whole = rendered_whole(vocoder, timbre, tokens)
    chunks = rendered_in_chunks(vocoder, timbre, tokens)
    streamed = np.concatenate(chunks)
    assert len(chunks) >= 2
    assert len(streamed) == len(whole) == count * 960
    # Before a crossfade, HiFT's far reach is all that differs.
    outside = np.abs(streamed - whole)[~crossfades(chunks)]
    assert outside.max() < 0.01 * np.abs(whole).max()
    assert np.sqrt(np.mean(outside**2)) < 1e-3 * np.sqrt(np.mean(whole**2))


@pytest.mark.parametrize("kind", KINDS)
def test_long_speech_too_is_the_whole(kind: str) -> None:
    vocoder, timbre = make_vocoder(kind)
    tokens = micro.speech_tokens(130)
    whole, chunks = rendered_whole(vocoder, timbre, tokens), rendered_in_chunks(vocoder, timbre, tokens)
    outside = np.abs(np.concatenate(chunks) - whole)[~crossfades(chunks)]
    assert np.sqrt(np.mean(outside**2)) < 1e-3 * np.sqrt(np.mean(whole**2))


@pytest.mark.parametrize("kind", KINDS)
def test_no_join_is_steeper_than_the_sound_itself(kind: str) -> None:
    vocoder, timbre = make_vocoder(kind)
    tokens = micro.speech_tokens(60)
    steepest = np.abs(np.diff(rendered_whole(vocoder, timbre, tokens))).max()
    chunks = rendered_in_chunks(vocoder, timbre, tokens)
    slopes = np.abs(np.diff(np.concatenate(chunks)))
    ends = np.cumsum([len(chunk) for chunk in chunks])[:-1]
    assert all(slopes[end - 3 : end + 3].max() <= steepest for end in ends)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_sounds_the_same_in_a_batch(kind: str) -> None:
    from chatterbox_service.vocoder import Job, Timbre

    vocoder, timbre = make_vocoder(kind)
    shorter = Timbre.of(micro.model(kind).builtin.gen, 1.0)
    makers = [(timbre, 60, 1), (shorter, 25, 2), (timbre, 10, 3)]
    together, alone = [], []
    for batch in (True, False):
        streams = []
        for voice, count, seed in makers:
            stream = vocoder.open(voice, seed)
            stream.tokens += micro.speech_tokens(count + 3, seed)
            streams.append(Job(stream, count, last=False))
        if batch:
            together = [audio.numpy() for audio in vocoder.render(streams)]
        else:
            alone = [vocoder.render([job])[0].numpy() for job in streams]
    for one, other in zip(together, alone, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=2e-3 * float(np.abs(other).max()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_rendering_can_be_broken_off_between_its_layers(kind: str) -> None:
    class Broken(Exception):
        pass

    vocoder, timbre = make_vocoder(kind)

    def opened() -> Any:
        stream = vocoder.open(timbre, 2)
        stream.tokens += micro.speech_tokens(30, 2)
        return stream.job(ended=False)

    pauses = 0

    def pause() -> None:
        nonlocal pauses
        pauses += 1
        if pauses == at:
            raise Broken

    at = 0
    undisturbed = vocoder.render([opened()], pause)[0]
    layers = pauses
    assert layers > 50
    for at in (1, layers // 2, layers):
        pauses = 0
        with pytest.raises(Broken):
            vocoder.render([opened()], pause)
        assert pauses == at
    np.testing.assert_array_equal(vocoder.render([opened()])[0], undisturbed)
    assert pauses == layers


@pytest.mark.parametrize("kind", KINDS)
def test_with_full_attention_the_mel_is_upstreams(kind: str) -> None:
    vocoder, timbre = make_vocoder(kind, "full")
    tokens = micro.speech_tokens(40)
    stream = vocoder.open(timbre, 5)
    noise = torch.cat([stream.prompt_noise, stream.flow_noise(0, 80)])
    stream.tokens += tokens
    vocoder.render([stream.job(ended=True)])
    s3gen = micro.model(kind).s3gen
    theirs, _ = s3gen.flow.inference(
        token=torch.tensor([tokens]),
        token_len=torch.tensor([len(tokens)]),
        prompt_token=timbre.tokens[None],
        prompt_token_len=torch.tensor([len(timbre.tokens)]),
        prompt_feat=timbre.mel[None],
        prompt_feat_len=None,
        embedding=timbre.embedding,
        finalize=True,
        n_timesteps=micro.model(kind).kind.flow_steps,
        noised_mels=noise.T[None],
        meanflow=s3gen.meanflow,
    )
    torch.testing.assert_close(stream.mel, theirs[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_with_full_attention_a_chunk_is_made_of_what_is_known_then(kind: str) -> None:
    vocoder, timbre = make_vocoder(kind, "full")
    tokens = micro.speech_tokens(60)
    whole, chunks = rendered_whole(vocoder, timbre, tokens), rendered_in_chunks(vocoder, timbre, tokens)
    streamed = np.concatenate(chunks)
    assert len(streamed) == len(whole)
    # So streamed speech is not the whole's, as it is by cells; but it hangs together.
    outside = (streamed - whole)[~crossfades(chunks)]
    assert np.sqrt(np.mean(outside**2)) > 2e-3 * np.sqrt(np.mean(whole**2))
    slopes = np.abs(np.diff(streamed))
    ends = np.cumsum([len(chunk) for chunk in chunks])[:-1]
    assert all(slopes[end - 3 : end + 3].max() <= np.abs(np.diff(whole)).max() for end in ends)
