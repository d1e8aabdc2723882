"""A Whisper checkpoint in CTranslate2's format that costs what `base.en` costs, for where no weights can be had.

Its weights are random, which multiply as slowly as learnt ones; the decoder's position encodings alone
say when the text ends, so that an utterance takes as many steps as a real one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Size:
    """Of encoder and decoder alike, but for `decoder_layers` if not 0. `mels`: bands of the features."""

    layers: int
    heads: int
    width: int
    decoder_layers: int = 0
    mels: int = 80


BASE = Size(6, 8, 512)
"""Of base.en (Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision, table 1)."""
TEXT_TOKENS = 50_256
"""Of GPT-2's vocabulary, without its end of text."""
SPECIAL = (
    "endoftext", "startoftranscript", "en", "translate", "transcribe", "startoflm", "startofprev", "nospeech",
    "notimestamps",
)  # fmt: skip
TIMESTAMPS = 1501
CONTEXT, ENCODER_CONTEXT = 448, 1500

PROMPT_TOKENS = 2
"""Before the text: start, no timestamps."""
REPLY_TOKENS = 20
"""Of the text: some 5 seconds of speech."""

SCALE = 0.01
"""Of the layers' weights: little enough that the position encodings prevail."""


def build(folder: Path, size: Size = BASE, reply_tokens: int = REPLY_TOKENS) -> Path:
    """Writes the checkpoint (150 MB for `BASE`) and returns `folder`. Needs the extra faster-whisper."""
    import ctranslate2
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    text = [*sorted(pre_tokenizers.ByteLevel.alphabet())]
    text += [f"token{number}" for number in range(TEXT_TOKENS - len(text))]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(text)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True, normalized=False) for name in SPECIAL])
    tokenizer.add_tokens([AddedToken(f"<|{n * 0.02:.2f}|>", normalized=False) for n in range(TIMESTAMPS)])
    ids = tokenizer.get_vocab()

    random, width = np.random.default_rng(1), size.width
    outputs = random.choice(np.array([-1, 1], np.float32), (len(ids), width))
    said = [*random.integers(0, TEXT_TOKENS, reply_tokens), ids["<|endoftext|>"]]
    positions = random.normal(0, SCALE, (CONTEXT, width))
    positions[PROMPT_TOKENS - 1 : PROMPT_TOKENS - 1 + len(said)] = outputs[said]

    spec = ctranslate2.specs.WhisperSpec(size.layers, size.heads, size.decoder_layers or size.layers, size.heads)
    encoder, decoder = spec.encoder, spec.decoder
    for convolution, channels in ((encoder.conv1, size.mels), (encoder.conv2, width)):
        convolution.weight = _array(random.normal(0, SCALE, (width, channels, 3)))
        convolution.bias = _array(np.zeros(width))
    encoder.position_encodings.encodings = _array(random.normal(0, SCALE, (ENCODER_CONTEXT, width)))
    decoder.embeddings.weight = _array(random.normal(0, SCALE, (len(ids), width)))
    decoder.position_encodings.encodings = _array(positions)
    decoder.projection.weight = _array(outputs)
    for part in (encoder, decoder):
        _norm(part.layer_norm, width)
        for layer in part.layer:
            _attention(random, layer.self_attention, width, (3, 1))
            if part is decoder:
                _attention(random, layer.attention, width, (1, 2, 1))
            _norm(layer.ffn.layer_norm, width)
            _linear(random, layer.ffn.linear_0, 4 * width, width)
            _linear(random, layer.ffn.linear_1, width, 4 * width)

    spec.register_vocabulary([token for token, _ in sorted(ids.items(), key=lambda item: item[1])])
    spec.config.suppress_ids = [ids["<|nospeech|>"]]
    spec.config.suppress_ids_begin = []
    spec.config.alignment_heads = [(0, 0)]
    spec.config.lang_ids = [ids["<|en|>"]]
    spec.validate()
    spec.optimize(quantization="float16")
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    features = {"feature_size": size.mels, "sampling_rate": 16000}
    (folder / "preprocessor_config.json").write_text(json.dumps(features))
    return folder


def _array(values: Any) -> Any:
    return np.ascontiguousarray(values, dtype=np.float32)


def _linear(random: np.random.Generator, spec: Any, rows: int, columns: int) -> None:
    spec.weight = _array(random.normal(0, SCALE, (rows, columns)))
    spec.bias = _array(np.zeros(rows))


def _norm(spec: Any, width: int) -> None:
    spec.gamma, spec.beta = _array(np.ones(width)), _array(np.zeros(width))


def _attention(random: np.random.Generator, spec: Any, width: int, sizes: tuple[int, ...]) -> None:
    """`sizes`: rows of each projection, in widths."""
    _norm(spec.layer_norm, width)
    for linear, size in zip(spec.linear, sizes, strict=True):
        _linear(random, linear, size * width, width)
