"""A micro Whisper that recognises the sentences of `conversation`, for the real faster-whisper: 0.4 million parameters.

Whisper's own architecture with an encoder as it was drawn; its decoder learns, on windows of 10 s and of 30 s, from the
very features that faster-whisper computes. Saved in CTranslate2's format, int8.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ctranslate2.converters.transformers import WhisperLoader
from faster_whisper import WhisperModel
from faster_whisper.feature_extractor import FeatureExtractor
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

from tests.engines.checkpoints import takes
from tests.engines.checkpoints.conversation import SENTENCES

STEPS = 1000
BATCH = 32
LONG_BATCH = 8
"""Of windows of 30 s, which are encoded anew each time: too many to keep."""
LONG_EVERY = 4
"""Steps between two on windows of 30 s."""
RATE = 4e-3
"""The highest learning rate; it rises for 30 steps and falls until the end."""
HARDEST = 0.25
"""Share of the tokens that is learnt from at each step: few of them tell one sentence from another."""
TAKES = 6
"""Of each sentence, voice and line."""
SILENCES = 80
THRESHOLD = 0.95
"""Share of unseen takes that must be recognised to the letter, in each window."""

WIDTH = 64
SHORT, LONG = 10, 30
"""Seconds of the windows."""
LANGUAGES = ("en", "de", "es", "fr")

_IGNORED = -100
"""Label of a token that the model need not guess."""


@dataclass(frozen=True, slots=True)
class _Take:
    features: np.ndarray[Any, np.dtype[np.float32]]
    """Shape (80, 3000)."""
    sentence: str
    """Empty where nobody speaks."""


def make(folder: Path, report: Callable[[str], None]) -> None:
    """Trains the model and saves it to `folder`. Raises `ValueError` where it did not learn."""
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    model = _model(tokenizer)
    report("speaking")
    random = np.random.default_rng(0)
    lessons = [*_takes(random, TAKES), *_silences(random, SILENCES)]
    exam = [*_takes(random, 1), *_silences(random, 10)]
    sounds = _sounds(model, lessons)
    heard = torch.cat([_encode(model, some, SHORT) for some in sounds.split(LONG_BATCH)])
    given, due = _targets(tokenizer, lessons)

    learning = list(model.model.decoder.parameters())
    optimizer = torch.optim.AdamW(learning, lr=RATE)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 30) * max(0.02, 1 - step / STEPS)
        if step % LONG_EVERY == 0:
            chosen = torch.from_numpy(random.integers(0, len(lessons), LONG_BATCH))
            encoded = _encode(model, sounds[chosen], LONG)
        else:
            chosen = torch.from_numpy(random.integers(0, len(lessons), BATCH))
            # The silence at the end is as good when there is less of it, and less is sooner computed.
            encoded = heard[chosen, : 500 if step % 2 else 350]
        loss = _loss(model, encoded, given[chosen], due[chosen])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        if step % 100 == 0:
            report(f"step {step} of {STEPS}, loss {loss.item():.3f}")

    _save(model, tokenizer, folder)
    for window in (SHORT, LONG):
        right = _share_right(folder, exam, window)
        report(f"{right:.1%} of the unseen takes are recognised in windows of {window} s")
        if right < THRESHOLD:
            raise ValueError(
                f"the micro Whisper did not learn: in windows of {window} s it recognises {right:.1%} of unseen takes, "
                f"not {THRESHOLD:.0%}"
            )


# ------------------------------------------------------------------------------------------- lessons


def _takes(random: np.random.Generator, count: int) -> Iterator[_Take]:
    for sentence in SENTENCES:
        for voice in takes.VOICES:
            for telephone in (True, False):
                for _ in range(count):
                    samples = takes.take(sentence, voice, random, telephone=telephone)
                    yield _Take(_features(samples, zeros=bool(random.integers(2))), sentence)


def _silences(random: np.random.Generator, count: int) -> Iterator[_Take]:
    for _ in range(count):
        yield _Take(_features(takes.nothing(random), zeros=bool(random.integers(2))), "")


def _features(samples: takes.Floats, *, zeros: bool) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What faster-whisper makes of `samples` in a window of 30 s, shape (80, 3000); 10 s are its first third.

    After them comes silence, as Whisper learnt and as our engine has it; or, as faster-whisper's own `transcribe` has
    it, `zeros` in place of features.
    """
    extractor = FeatureExtractor(feature_size=80)
    features = extractor(samples, padding=extractor.n_fft)[..., :3000]
    silence = 0.0 if zeros else max((-10 + 4) / 4, float(features.max()) - 8 / 4)
    padding = ((0, 0), (0, 3000 - features.shape[-1]))
    return np.pad(features, padding, constant_values=silence).astype(np.float32)


@torch.no_grad()
def _sounds(model: WhisperForConditionalGeneration, lessons: Sequence[_Take]) -> Tensor:
    """What the encoder's convolutions make of the first 10 s, of shape (lessons, 500, width)."""
    encoder = model.model.encoder
    parts = []
    for first in range(0, len(lessons), 16):
        features = torch.from_numpy(np.stack([take.features[:, :1000] for take in lessons[first : first + 16]]))
        hidden = torch.nn.functional.gelu(encoder.conv1(features))
        parts.append(torch.nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2))
    return torch.cat(parts)


@torch.no_grad()
def _encode(model: WhisperForConditionalGeneration, sounds: Tensor, window: int) -> Tensor:
    """What the encoder makes of `sounds` in a window of so many seconds: shape (n, 50 per second, width)."""
    encoder = model.model.encoder
    # All but the very last columns of the silence at the end are alike.
    silence = sounds[:, -8:-7].expand(-1, 50 * window - sounds.shape[1] + 4, -1)
    hidden = torch.cat([sounds[:, :-4], silence], 1) + encoder.embed_positions.weight[: 50 * window]
    for layer in encoder.layers:
        hidden, _ = layer(hidden, None)
    return encoder.layer_norm(hidden)


def _targets(tokenizer: Tokenizer, lessons: Sequence[_Take]) -> tuple[Tensor, Tensor]:
    """What the decoder is given and what it is to say next, both of shape (lessons, tokens of the longest)."""
    start, plain, end, silence = (
        tokenizer.token_to_id(f"<|{name}|>") for name in ("startoftranscript", "notimestamps", "endoftext", "nospeech")
    )
    given, due = [], []
    for take in lessons:
        text = tokenizer.encode(" " + take.sentence, add_special_tokens=False).ids if take.sentence else []
        given.append([start, plain, *text])
        # What follows the start tells speech from silence.
        due.append([plain if text else silence, *text, end])
    longest = max(map(len, given))
    return (
        torch.tensor([row + [end] * (longest - len(row)) for row in given]),
        torch.tensor([row + [_IGNORED] * (longest - len(row)) for row in due]),
    )


def _loss(model: WhisperForConditionalGeneration, heard: Tensor, given: Tensor, due: Tensor) -> Tensor:
    """Mean over the hardest tokens."""
    logits = model(encoder_outputs=(heard,), decoder_input_ids=given).logits
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), due.flatten(), ignore_index=_IGNORED, reduction="none"
    )
    return losses.topk(int((due != _IGNORED).sum() * HARDEST)).values.mean()


# --------------------------------------------------------------------------------------------- model


def _tokenizer() -> Tokenizer:
    """Whisper's order of tokens, with a text vocabulary of a few hundred."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        [" " + sentence for sentence in SENTENCES] * 5,
        trainers.BpeTrainer(vocab_size=600, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())),
    )
    special = [
        "endoftext", "startoftranscript", *LANGUAGES, "translate", "transcribe",
        "startoflm", "startofprev", "nospeech", "notimestamps",
    ]  # fmt: skip
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True, normalized=False) for name in special])
    tokenizer.add_tokens([AddedToken(f"<|{n * 0.02:.2f}|>", normalized=False) for n in range(1501)])
    return tokenizer


def _model(tokenizer: Tokenizer) -> WhisperForConditionalGeneration:
    start, end = (tokenizer.token_to_id(f"<|{name}|>") for name in ("startoftranscript", "endoftext"))
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=tokenizer.get_vocab_size(),
            num_mel_bins=80,
            d_model=WIDTH,
            encoder_layers=1,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=2 * WIDTH,
            decoder_ffn_dim=2 * WIDTH,
            decoder_start_token_id=start,
            pad_token_id=end,
            bos_token_id=end,
            eos_token_id=end,
            suppress_tokens=[],
            begin_suppress_tokens=[],
        )
    )
    encoder = model.model.encoder
    with torch.no_grad():
        # Wide enough that the convolutions, which stay as they are, tell sounds apart.
        torch.nn.init.normal_(encoder.conv1.weight, std=2.5 / math.sqrt(80 * 3))
        torch.nn.init.normal_(encoder.conv2.weight, std=2.5 / math.sqrt(WIDTH * 3))
        # A sentence is the same one sooner or later.
        encoder.embed_positions.weight.mul_(0.04)
        for weight in model.model.decoder.parameters():
            if weight.ndim == 2 and max(weight.shape) <= 256:
                torch.nn.init.xavier_uniform_(weight)
    return model


def _save(model: WhisperForConditionalGeneration, tokenizer: Tokenizer, folder: Path) -> None:
    """In CTranslate2's format, int8, beside what faster-whisper wants to know."""
    languages = {f"<|{language}|>": tokenizer.token_to_id(f"<|{language}|>") for language in LANGUAGES}
    model.generation_config = GenerationConfig(
        suppress_tokens=[], begin_suppress_tokens=[], alignment_heads=[[0, 0], [1, 1]], lang_to_id=languages
    )
    spec = WhisperLoader()(model, tokenizer)
    spec.validate()
    spec.optimize(quantization="int8")
    spec.save(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "preprocessor_config.json").write_text(json.dumps({"feature_size": 80, "sampling_rate": takes.RATE}))


def _share_right(folder: Path, exam: Sequence[_Take], window: int) -> float:
    """Share of `exam` that the saved model recognises to the letter, silence included."""
    model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
    tokens = model.hf_tokenizer
    prompt = [tokens.token_to_id("<|startoftranscript|>"), tokens.token_to_id("<|notimestamps|>")]
    right = 0
    for take in exam:
        encoded = model.encode(np.ascontiguousarray(take.features[:, : 100 * window]))
        result = model.model.generate(encoded, [prompt], beam_size=1, return_no_speech_prob=True)[0]
        text = "" if result.no_speech_prob >= 0.6 else tokens.decode(result.sequences_ids[0]).strip()
        right += text == take.sentence
    return right / len(exam)
