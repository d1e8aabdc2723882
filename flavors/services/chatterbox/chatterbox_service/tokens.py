"""T3, text to speech tokens, for many streams at once.

Upstream's loops (`T3.inference`, `T3.inference_turbo` of chatterbox-tts 0.1.7) speak one text from its first token to
its last. Here one `step` gives every stream its next token: a forward pass over a batch of single positions, each row
with its own place in a key-value cache that we keep. Streams join and leave between steps. The order of embeddings and
of the sampling filters is upstream's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (torch's own convention)

SPEECH_TOKENS = 6561
"""S3 speech tokens are below this; what T3 says above it steers, and is never heard."""

TOKENS_PER_SECOND = 25

_POSITIONS = 128
"""The cache grows by multiples of it, and attention looks at multiples of it: few shapes, few allocations."""
_LEAST_TIME = 2.0**-24
"""Of a token in the race: what is drawn may be 0."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a model's tokens are drawn. Defaults of upstream's `generate`, per model."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    penalty_first: bool
    """Whether the penalty comes before the filters (standard, multilingual) or after them (Turbo)."""
    guidance: float = 0.0
    """Weight of classifier-free guidance; above 0 each stream takes two rows of the batch."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """What every text in one voice begins with, already computed. keys_values: [layers, 2, heads, positions, size]."""

    keys_values: Tensor

    @property
    def positions(self) -> int:
        return int(self.keys_values.shape[3])


@dataclass(slots=True)
class TokenStream:
    """One text on its way to speech tokens."""

    text: Tensor
    """Text tokens as the model's tokenizer made them, [length]."""
    prefix: Prefix
    generator: np.random.Generator
    temperature: float
    minimum: int
    """Tokens before which it must not stop."""
    maximum: int
    """Tokens at which it is stopped."""
    expected: int = 0
    """Tokens that it is likely to have."""
    repeats: int = TOKENS_PER_SECOND
    """So often the same token in a row, and it is stopped: the model is stuck."""

    tokens: list[int] = field(default_factory=list)
    """What it has said so far, to be heard: each below SPEECH_TOKENS."""
    ended: bool = False
    ran_away: bool = False
    """It was stopped: it did not come to an end by itself."""

    _drawn: int = 0
    _position: int = 0
    _last: int = -1
    _same: int = 0

    @property
    def begun(self) -> bool:
        """Whether its text was read."""
        return self._drawn > 0

    def _take(self, token: int, stop: int) -> None:
        self._same = self._same + 1 if token == self._last else 1
        self._last = token
        self._drawn += 1
        if token == stop:
            self.ended = True
            return
        if token < SPEECH_TOKENS:
            self.tokens.append(token)
        if self._drawn >= self.maximum or self._same >= self.repeats:
            self.ended = self.ran_away = True


class _Attend(Protocol):
    """Keeps a layer's new keys and values and attends to all there are; [rows, heads, new positions, size] each."""

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor: ...


class _Gpt2:
    """The backbone of Turbo: a `transformers.GPT2Model`, layer by layer."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.layers = len(model.h)
        self.heads = int(model.config.n_head)
        self.size = int(model.config.n_embd) // self.heads

    def __call__(self, x: Tensor, positions: Tensor, attend: _Attend) -> Tensor:
        x = x + self._model.wpe(positions)
        for i, block in enumerate(self._model.h):
            query, key, value = (
                part.unflatten(-1, (self.heads, self.size)).transpose(1, 2)
                for part in block.attn.c_attn(block.ln_1(x)).chunk(3, dim=-1)
            )
            x = x + block.attn.c_proj(attend(i, query, key, value).transpose(1, 2).flatten(2))
            x = x + block.mlp(block.ln_2(x))
        return self._model.ln_f(x)


class _Llama:
    """The backbone of the standard and the multilingual model: a `transformers.LlamaModel`, layer by layer."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.layers = len(model.layers)
        self.heads = int(model.config.num_attention_heads)
        self.size = int(model.config.head_dim)

    def __call__(self, x: Tensor, positions: Tensor, attend: _Attend) -> Tensor:
        cosine, sine = (part[:, None] for part in self._model.rotary_emb(x, positions))
        for i, layer in enumerate(self._model.layers):
            normed = layer.input_layernorm(x)
            query, key, value = (
                project(normed).unflatten(-1, (self.heads, self.size)).transpose(1, 2)
                for project in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj)
            )
            query, key = (part * cosine + _rotate_half(part) * sine for part in (query, key))
            x = x + layer.self_attn.o_proj(attend(i, query, key, value).transpose(1, 2).flatten(2))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return self._model.norm(x)


def _rotate_half(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


class Stepper:
    """All streams of one model. Of one thread.

    The rows of the cache are those of the streams in their order; where a stream leaves, the last one takes its rows.
    A row's positions beyond its own are never attended to, so rows of any length stand side by side.
    """

    def __init__(self, t3: Any, sampling: Sampling) -> None:
        self._t3 = t3
        self._sampling = sampling
        self._backbone = _Gpt2(t3.tfmr) if t3.is_gpt else _Llama(t3.tfmr)
        self._rows_each = 2 if sampling.guidance > 0 else 1
        self._stop = int(t3.hp.stop_speech_token)
        self._start = int(t3.hp.start_speech_token)
        self._vocabulary = int(t3.hp.speech_tokens_dict_size)
        self._streams: list[TokenStream] = []
        self._cache = self._empty(0, 0)
        self._seen = torch.zeros(0, self._vocabulary, dtype=torch.bool, device=self.device)

    @property
    def device(self) -> torch.device:
        return self._t3.speech_emb.weight.device

    @property
    def streams(self) -> Sequence[TokenStream]:
        """Those that have not ended."""
        return self._streams

    @property
    def position_bytes(self) -> int:
        """What the cache takes for each position of a stream."""
        backbone, size = self._backbone, int(self._t3.speech_emb.weight.element_size())
        return backbone.layers * 2 * self._rows_each * backbone.heads * backbone.size * size

    @property
    def rows(self) -> int:
        """Rows that the cache has room for, with guidance two for each stream; none where nobody speaks."""
        return int(self._cache.shape[2])

    @torch.inference_mode()
    def prefix(self, conditioning: Any) -> Prefix:
        """Keys and values of a voice's conditioning (`T3Cond`), once for all texts in that voice."""
        embedded = self._t3.prepare_conditioning(conditioning)
        backbone = self._backbone
        kept = embedded.new_empty(backbone.layers, 2, backbone.heads, embedded.shape[1], backbone.size)

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            kept[layer, 0], kept[layer, 1] = key[0], value[0]
            return F.scaled_dot_product_attention(query, key, value, is_causal=True)

        backbone(embedded, torch.arange(embedded.shape[1], device=self.device)[None], attend)
        return Prefix(kept)

    @torch.inference_mode()
    def join(self, streams: Sequence[TokenStream]) -> None:
        """Read the texts of new streams and draw their first tokens."""
        together: dict[int, list[TokenStream]] = {}
        for stream in streams:
            together.setdefault(stream.prefix.positions, []).append(stream)
        for positions, batch in together.items():
            self._read(positions, batch)

    @torch.inference_mode()
    def step(self) -> None:
        """Give each stream its next token. Whoever ends has left when it returns."""
        if not self._streams:
            return
        device, each = self.device, self._rows_each
        last = torch.tensor([[stream._last] for stream in self._streams], device=device)
        x = self._t3.speech_emb(last)
        if not self._t3.is_gpt:
            drawn = torch.tensor([[stream._drawn] for stream in self._streams], device=device)
            x = x + self._t3.speech_pos_emb.get_fixed_embedding(drawn)
        x = x.repeat_interleave(each, dim=0)
        positions = torch.tensor([stream._position for stream in self._streams], device=device)
        positions = positions.repeat_interleave(each)
        rows = len(self._streams) * each
        length = self._reserve(rows, max(stream._position for stream in self._streams) + 1)
        visible = (torch.arange(length, device=device) <= positions[:, None])[:, None, None]
        index = torch.arange(rows, device=device)

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            keys, values = self._cache[layer, :, :rows]
            keys[index, :, positions] = key[:, :, 0]
            values[index, :, positions] = value[:, :, 0]
            return F.scaled_dot_product_attention(query, keys[:, :, :length], values[:, :, :length], attn_mask=visible)

        hidden = self._backbone(x, positions[:, None], attend)
        for stream in self._streams:
            stream._position += 1
        self._draw(self._streams, self._seen[: len(self._streams)], hidden[:, -1])
        for stream in [stream for stream in self._streams if stream.ended]:
            self.leave(stream)

    @torch.inference_mode()
    def leave(self, stream: TokenStream) -> None:
        """Free a stream's place; nothing where it has left already."""
        at = next((i for i, one in enumerate(self._streams) if one is stream), None)
        if at is None:
            return
        each, last = self._rows_each, len(self._streams) - 1
        if at != last:
            mover = self._streams[at] = self._streams[last]
            to, source = slice(at * each, (at + 1) * each), slice(last * each, (last + 1) * each)
            self._cache[:, :, to, :, : mover._position] = self._cache[:, :, source, :, : mover._position]
            self._seen[at] = self._seen[last]
        self._streams.pop()
        if not self._streams:  # The memory of a busy minute is not kept for a quiet hour.
            self._cache = self._empty(0, 0)

    def clear(self) -> None:
        """Forget all streams."""
        self._streams.clear()
        self._cache = self._empty(0, 0)

    def _empty(self, rows: int, positions: int) -> Tensor:
        backbone, weight = self._backbone, self._t3.speech_emb.weight
        return weight.new_zeros(backbone.layers, 2, rows, backbone.heads, positions, backbone.size)

    def _reserve(self, rows: int, positions: int) -> int:
        """Room for so many rows and positions; returns how many positions attention shall look at."""
        positions = -(-positions // _POSITIONS) * _POSITIONS
        had_rows, had_positions = self._cache.shape[2], self._cache.shape[4]
        if rows > had_rows or positions > had_positions:
            more_rows = had_rows if rows <= had_rows else max(rows, 2 * had_rows)
            grown = self._empty(more_rows, max(positions, had_positions))
            grown[:, :, :had_rows, :, :had_positions] = self._cache
            self._cache = grown
        if len(self._seen) * self._rows_each < rows:
            more = self._seen.new_zeros(self._cache.shape[2] // self._rows_each, self._vocabulary)
            more[: len(self._seen)] = self._seen
            self._seen = more
        return positions

    def _read(self, begin: int, batch: list[TokenStream]) -> None:
        """Prefill: texts behind prefixes of one length, padded on the right, where padding is never attended to."""
        device, each = self.device, self._rows_each
        embedded = [self._embed(stream.text) for stream in batch]
        lengths = torch.tensor([e.shape[1] for e in embedded], device=device).repeat_interleave(each)
        longest = max(e.shape[1] for e in embedded)
        x = torch.cat([F.pad(e, (0, 0, 0, longest - e.shape[1])) for e in embedded])
        first, rows = len(self._streams) * each, len(batch) * each
        self._reserve(first + rows, begin + longest)
        cache = self._cache[:, :, first : first + rows]
        for i, stream in enumerate(batch):
            own = cache[:, :, i * each : (i + 1) * each, :, :begin]
            own.copy_(stream.prefix.keys_values[:, :, None].expand_as(own))
            stream._position = begin + embedded[i].shape[1]
        # Whoever had these rows before: what is masked counts for nought, unless it was no number.
        cache[:, :, :, :, begin + longest :].zero_()
        positions = begin + torch.arange(longest, device=device)
        visible = torch.arange(begin + longest, device=device) <= positions[:, None]

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            keys, values = cache[layer, :, :, :, : begin + longest]
            keys[:, :, begin:], values[:, :, begin:] = key, value
            return F.scaled_dot_product_attention(query, keys, values, attn_mask=visible)

        hidden = self._backbone(x, positions[None].expand(rows, -1), attend)
        index = len(self._streams)
        self._streams += batch
        seen = self._seen[index : index + len(batch)]
        seen.zero_()
        # Upstream's penalty knows the start token: Turbo at the first draw, the others at all.
        seen[:, self._start] = True
        self._draw(batch, seen, hidden[torch.arange(rows, device=device), lengths - 1])
        if self._t3.is_gpt:
            seen[:, self._start] = False
        for stream in [stream for stream in batch if stream.ended]:
            self.leave(stream)

    def _embed(self, text: Tensor) -> Tensor:
        """Text and the start of speech, [1 or 2, positions, size]; the second row is unconditional, for guidance."""
        t3 = self._t3
        text = text.to(device=self.device, dtype=torch.long)[None]
        start = torch.full((1, 1), self._start, device=self.device)
        speech = t3.speech_emb(start)
        if t3.is_gpt:
            return torch.cat([t3.text_emb(text), speech], dim=1)
        where, speech = t3.text_pos_emb(text), speech + t3.speech_pos_emb.get_fixed_embedding(0)
        rows = [t3.text_emb(text) + where]
        if self._rows_each == 2:
            rows.append(where[None])
        # Upstream gives the start of speech twice (`prepare_input_embeds`, and `bos_embed` in `T3.inference`).
        return torch.cat([torch.cat([row, speech, speech], dim=1) for row in rows])

    def _draw(self, streams: Sequence[TokenStream], seen: Tensor, hidden: Tensor) -> None:
        """Draw a token for each stream from its last hidden state(s), [rows, size], and note it in `seen`."""
        likelihoods, tokens = self._likelihoods(streams, seen, hidden)
        # A race of exponential times: each token wins as often as it is likely. Of one uniform number, rounding, which
        # depends on who else speaks, would change far more draws, as it moves the bounds of all tokens.
        numbers = np.stack([stream.generator.standard_exponential(self._vocabulary, np.float32) for stream in streams])
        times = torch.from_numpy(numbers).to(self.device).clamp_(min=_LEAST_TIME).gather(1, tokens)
        drawn = tokens.gather(1, (likelihoods / times).argmax(dim=1, keepdim=True))
        seen.scatter_(1, drawn, True)
        for stream, token in zip(streams, drawn[:, 0].tolist(), strict=True):
            stream._take(token, self._stop)

    def _likelihoods(self, streams: Sequence[TokenStream], seen: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """How likely each stream's next tokens are, and which these are: [streams, at most the vocabulary] each."""
        device, how = self.device, self._sampling
        logits = self._t3.speech_head(hidden).float()
        if self._rows_each == 2:
            conditional, unconditional = logits[0::2], logits[1::2]
            logits = conditional + how.guidance * (conditional - unconditional)
        short = [stream._drawn < stream.minimum for stream in streams]
        logits[:, self._stop].masked_fill_(torch.tensor(short, device=device), -torch.inf)
        if how.penalty_first:
            logits = _penalized(logits, seen, how.repetition_penalty)
        logits = logits / torch.tensor([[stream.temperature] for stream in streams], device=device)
        width = how.top_k if 0 < how.top_k < logits.shape[1] else logits.shape[1]
        logits, tokens = logits.topk(width, dim=1)
        probabilities = logits.softmax(dim=1)
        if how.min_p > 0:
            logits = logits.masked_fill(probabilities < how.min_p * probabilities[:, :1], -torch.inf)
        if how.top_p < 1:
            logits = logits.masked_fill(probabilities.cumsum(dim=1) - probabilities >= how.top_p, -torch.inf)
        if not how.penalty_first:
            logits = _penalized(logits, seen.gather(1, tokens), how.repetition_penalty)
        return logits.softmax(dim=1), tokens


def _penalized(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)
