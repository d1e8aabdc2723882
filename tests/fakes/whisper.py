"""A tiny Whisper checkpoint in CTranslate2's format that the real libraries load and run in milliseconds.

Its weights are written, not learnt: the decoder's position encodings spell out a text, whatever
the audio. So a test knows what must be recognised while every line of faster-whisper and
CTranslate2 that a real model needs is run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import ctranslate2
import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

LANGUAGES = ("en", "es", "de", "fr")
"""Those of the multilingual checkpoint; the real ones have 99 or 100."""


class Size(NamedTuple):
    """Dimensions of a checkpoint. `vocabulary`: tokens of text, beside the special ones, at least."""

    width: int
    heads: int
    layers: int
    vocabulary: int


MICRO = Size(64, 2, 1, 0)
TINY = Size(384, 6, 4, 50_257)
BASE = Size(512, 8, 6, 50_257)
"""What Whisper's own of this name computes, and as fast: a measurement needs no sense."""


def build(
    folder: Path,
    text: str,
    *,
    language: str = "en",
    multilingual: bool = False,
    no_speech: bool = False,
    unsure: bool = False,
    repeats: int = 1,
    seconds: int = 30,
    size: Size = MICRO,
) -> Path:
    """Writes a checkpoint that recognises `text` (`repeats` times over) in everything, and returns `folder`.

    `multilingual`: like Whisper's models for all languages, else like those for English alone.
    `language`: the one that it detects. `no_speech`: it is sure that there is no speech.
    `unsure`: each of its tokens is unlikely. `seconds`: the longest window that its encoder takes.
    """
    width = size.width
    tokenizer = _tokenizer(multilingual, size.vocabulary)
    ids = tokenizer.get_vocab()
    prompt = 4 if multilingual else 2
    """Tokens before the text: start, language and task, no timestamps."""
    spelt = tokenizer.encode((" " + text) * repeats, add_special_tokens=False).ids
    wanted = {prompt - 1 + n: token for n, token in enumerate([*spelt, ids["<|endoftext|>"]])}

    random = np.random.default_rng(1)
    outputs = random.choice([-1.0, 1.0], (len(ids), width))
    positions = random.normal(0, 0.01, (448, width))
    for position, token in wanted.items():
        positions[position] = outputs[token]
    # What follows the start says whether there is speech, and in which language.
    positions[0] = outputs[ids["<|nospeech|>" if no_speech else "<|transcribe|>"]] + outputs[ids[f"<|{language}|>"]] / 2

    spec = ctranslate2.specs.WhisperSpec(size.layers, size.heads, size.layers, size.heads)
    encoder, decoder = spec.encoder, spec.decoder
    for convolution, channels in ((encoder.conv1, 80), (encoder.conv2, width)):
        convolution.weight = _array(random.normal(0, 0.05, (width, channels, 3)))
        convolution.bias = _array(np.zeros(width))
    encoder.position_encodings.encodings = _array(random.normal(0, 0.05, (50 * seconds, width)))
    decoder.embeddings.weight = _array(np.zeros((len(ids), width)))
    decoder.position_encodings.encodings = _array(positions)
    # Likelihood of a token: the wider the logits are apart, the surer.
    logits = outputs * (0.08 if unsure else 1.0)
    logits[ids["<|nospeech|>"]] = outputs[ids["<|nospeech|>"]]
    _linear(decoder.projection, logits, bias=False)
    for part in (encoder, decoder):
        _norm(part.layer_norm, width)
        for layer in part.layer:
            _attention(layer.self_attention, (3, 1), width)
            if part is decoder:
                _attention(layer.attention, (1, 2, 1), width)
            _norm(layer.ffn.layer_norm, width)
            _linear(layer.ffn.linear_0, np.zeros((4 * width, width)))
            _linear(layer.ffn.linear_1, np.zeros((width, 4 * width)))

    spec.register_vocabulary([token for token, _ in sorted(ids.items(), key=lambda item: item[1])])
    spec.config.suppress_ids = [ids["<|nospeech|>"]]
    spec.config.suppress_ids_begin = []
    spec.config.alignment_heads = [(0, 0)]
    spec.config.lang_ids = [ids[f"<|{language}|>"] for language in LANGUAGES]
    spec.validate()
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "preprocessor_config.json").write_text(json.dumps({"feature_size": 80, "sampling_rate": 16000}))
    return folder


def _tokenizer(multilingual: bool, vocabulary: int) -> Tokenizer:
    """Whisper's order of tokens: text (here the 256 bytes, and what nobody says), the special ones, the timestamps."""
    characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    # CTranslate2 tells a multilingual model by an empty token, which Whisper's English vocabulary lacks.
    text = [*characters, ""] if multilingual else characters
    text += [f"unsaid{n}" for n in range(len(text), vocabulary)]
    tokenizer = Tokenizer(models.BPE({token: n for n, token in enumerate(text)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [
        "endoftext", "startoftranscript", *LANGUAGES, "translate", "transcribe",
        "startoflm", "startofprev", "nospeech", "notimestamps",
    ]  # fmt: skip
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True, normalized=False) for name in special])
    tokenizer.add_tokens([AddedToken(f"<|{n * 0.02:.2f}|>", normalized=False) for n in range(1501)])
    return tokenizer


def _array(values: Any) -> Any:
    return np.ascontiguousarray(values, dtype=np.float32)


def _linear(spec: Any, weight: Any, *, bias: bool = True) -> None:
    spec.weight = _array(weight)
    if bias:
        spec.bias = _array(np.zeros(len(weight)))


def _norm(spec: Any, width: int) -> None:
    spec.gamma, spec.beta = _array(np.ones(width)), _array(np.zeros(width))


def _attention(spec: Any, sizes: tuple[int, ...], width: int) -> None:
    """`sizes`: rows of each projection, in widths; all zero, so that the layer adds nothing."""
    _norm(spec.layer_norm, width)
    for linear, size in zip(spec.linear, sizes, strict=True):
        _linear(linear, np.zeros((size * width, width)))
