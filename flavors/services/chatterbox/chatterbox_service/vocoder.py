"""S3Gen, speech tokens to audio, in chunks, for many streams at once.

Upstream (chatterbox-tts 0.1.7) turns all tokens of a text into audio at once. What makes chunks of it, such that they
are the same audio:

* Attention by cells. The flow (encoder and decoder) lets a frame see the prompt, all earlier cells of the text and its
  own cell, the masks that its architecture was made for (CosyVoice 2, arXiv 2412.10117, section 2.4); its convolutions
  are causal but for the encoder's look-ahead of three tokens. So no frame changes when more tokens are known. Cells lie
  at fixed tokens, however much is rendered at a time.
* Noise by place. The flow's noise and the vocoder's belong to the stream's seed and to the frame.
* A source that goes on. The phase of HiFT's harmonics is carried from chunk to chunk, not begun anew.
* A crossfade over what HiFT, whose convolutions look ahead, could not yet know: the last frames of a chunk are held
  back and fade into their second rendering.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (torch's own convention)

RATE = 24_000
FRAME = 480
"""Samples of a mel frame: 20 ms. A speech token is two frames."""

FRAMES_PER_TOKEN = 2
LOOK_AHEAD = 3
"""Tokens that the encoder must know beyond those that are rendered."""

FIRST_CELL = 10
SECOND_CELL = 25
CELL = 25
"""Cells end at tokens 10, 25, 50, 75, ...: audio soon, then cells of a second, as streaming models learn with."""

SEGMENT = 125
SEGMENT_HISTORY = 50
"""The flow's window begins anew every 125 tokens (5 s), with 50 tokens before it: what a chunk costs is bounded."""

MOST_FRAMES = 4000
"""Frames of all windows that are rendered in one go: bounds memory, and how long everybody else waits."""

HELD = 8
"""Frames held back at the end of a chunk, and faded."""

FIRST_CHUNK_SECONDS = (FRAMES_PER_TOKEN * FIRST_CELL - HELD) * FRAME / RATE
"""What can be heard of a first cell."""

_CONTEXT = 17
"""Frames rendered again before those that are held: more than HiFT looks back."""
_EXTENSION = 16
"""Frames after the last one, each its copy: HiFT's edge is no silence, and no other stream's length matters."""
_F0_LOOK_AHEAD = 5
_NOISE_BLOCK = 50

Attention = Literal["cells", "full"]


def last_boundary(tokens: int) -> int:
    """The end of the last whole cell within so many tokens; 0 where there is none."""
    if tokens >= SECOND_CELL:
        return tokens // CELL * CELL
    return FIRST_CELL if tokens >= FIRST_CELL else 0


def _cells(tokens: Tensor) -> Tensor:
    """The cell that each token of these indices is in."""
    early = (tokens >= FIRST_CELL).long()
    return torch.where(tokens < SECOND_CELL, early, tokens // CELL + 1)


@dataclass(frozen=True, slots=True)
class Timbre:
    """Whose voice it is, for S3Gen. tokens: [n]; mel: [2 n, 80]; embedding: [1, 192] (x-vector)."""

    tokens: Tensor
    mel: Tensor
    embedding: Tensor

    @classmethod
    def of(cls, conditionals: dict[str, Any], seconds: float) -> Timbre:
        """The beginning of a reference, as `S3Gen.embed_ref` made it: what a chunk costs grows with its length."""
        tokens, mel = conditionals["prompt_token"][0], conditionals["prompt_feat"][0]
        length = min(round(seconds * RATE / FRAME / FRAMES_PER_TOKEN), len(tokens), len(mel) // FRAMES_PER_TOKEN)
        return cls(
            tokens[:length].long(), mel[: FRAMES_PER_TOKEN * length], torch.atleast_2d(conditionals["embedding"])
        )


class _Noise:
    """Gaussian noise by frame, the same however it is asked for. Each draw is [frames, width]."""

    def __init__(self, width: int, seed: int, device: torch.device) -> None:
        self._generator = torch.Generator(device).manual_seed(seed)
        self._blocks = torch.empty(0, width, device=device)
        self._begin = 0

    def __call__(self, begin: int, end: int) -> Tensor:
        """Frames begin to end; those before `begin` are forgotten."""
        width, device = self._blocks.shape[1], self._blocks.device
        while self._begin + len(self._blocks) < end:
            block = torch.randn(_NOISE_BLOCK, width, generator=self._generator, device=device)
            self._blocks = torch.cat([self._blocks, block])
        self._blocks = self._blocks[max(0, begin - self._begin) :]
        self._begin = max(begin, self._begin)
        return self._blocks[: end - begin]


@dataclass(slots=True)
class VocoderStream:
    """One text on its way to audio. Made by `Vocoder.open`."""

    timbre: Timbre
    prompt_noise: Tensor
    flow_noise: _Noise
    source_noise: _Noise
    phases: Tensor
    """Where HiFT's harmonics begin, in cycles, [harmonics]; then where they are at `source_end`."""
    tokens: list[int] = field(default_factory=list)
    """All that are known; grows at its end."""
    rendered: int = 0
    """Tokens that are audio (their last frames may be held back)."""
    begin: int = 0
    """The first frame of `mel` and `source`."""
    mel: Tensor = field(default_factory=lambda: torch.empty(80, 0))
    source: Tensor = field(default_factory=lambda: torch.empty(0))
    held: Tensor = field(default_factory=lambda: torch.empty(0))

    def job(self, ended: bool) -> Job | None:
        """What can be rendered now; `None`: nothing. `ended`: there are no more tokens to come."""
        known = len(self.tokens)
        upto = min(known if ended else last_boundary(known - LOOK_AHEAD), (self.rendered // SEGMENT + 1) * SEGMENT)
        if upto > self.rendered or (ended and known):
            return Job(self, upto, last=ended and upto == known)
        return None


@dataclass(frozen=True, slots=True)
class Job:
    """Render a stream up to a token: a cell's end, or its last token."""

    stream: VocoderStream
    upto: int
    last: bool

    @property
    def begin(self) -> int:
        """The first token of the flow's window."""
        return max(0, self.stream.rendered // SEGMENT * SEGMENT - SEGMENT_HISTORY)

    @property
    def frames(self) -> int:
        """Of the flow's window: what it costs."""
        return FRAMES_PER_TOKEN * (len(self.stream.timbre.tokens) + self.upto - self.begin)


def _go_on() -> None:
    pass


class Vocoder:
    """S3Gen's flow and HiFT. Of one thread, in which alone these networks are used while it renders."""

    def __init__(self, s3gen: Any, flow_steps: int, attention: Attention = "cells") -> None:
        self._s3gen = s3gen
        self._flow = s3gen.flow
        self._hift = s3gen.mel2wav
        self._flow_steps = flow_steps
        self._attention = attention
        self._fade = 0.5 - 0.5 * torch.cos(torch.linspace(0, torch.pi, HELD * FRAME, device=self._device))
        self._pause: Callable[[], None] = _go_on
        # A few hundred in a rendering: more would cost a GPU time, fewer keep a place for longer.
        norms = [module for module in self._flow.modules() if isinstance(module, torch.nn.LayerNorm)]
        for module in (*norms, *self._hift.ups, *self._hift.resblocks):
            module.register_forward_pre_hook(lambda *_: self._pause())

    def open(self, timbre: Timbre, seed: int) -> VocoderStream:
        device, harmonics = self._device, self._hift.nb_harmonics + 1
        seeds = torch.Generator().manual_seed(seed)
        prompt, flow, source = torch.randint(2**62, (3,), generator=seeds).tolist()
        phases = torch.rand(harmonics, generator=seeds) - 0.5
        phases[0] = 0  # The fundamental begins at nought (`SineGen`).
        return VocoderStream(
            timbre=timbre,
            prompt_noise=_Noise(80, prompt, device)(0, len(timbre.mel)),
            flow_noise=_Noise(80, flow, device),
            source_noise=_Noise(harmonics * FRAME, source, device),
            phases=phases.to(device),
            mel=torch.empty(80, 0, device=device),
            source=torch.empty(0, device=device),
            held=torch.empty(0, device=device),
        )

    @torch.inference_mode()
    def render(self, jobs: Sequence[Job], pause: Callable[[], None] = _go_on) -> list[Tensor]:
        """The audio of each job that can be heard now, [samples] each, on the CPU.

        pause: called a few hundred times, between layers. What it raises breaks the rendering off; the jobs' streams
        are not to be rendered again then.
        """
        self._pause = pause
        try:
            for job, mel in zip(jobs, self._mels(jobs), strict=True):
                job.stream.mel = torch.cat([job.stream.mel, mel], dim=1)
            return self._audio(jobs)
        finally:
            self._pause = _go_on

    @property
    def _device(self) -> torch.device:
        return self._flow.input_embedding.weight.device

    # --- flow: tokens to mel

    def _mels(self, jobs: Sequence[Job]) -> list[Tensor]:
        """The mel of what is new in each job, [80, frames]."""
        device, flow = self._device, self._flow
        begins = [job.begin for job in jobs]
        prompts = [len(job.stream.timbre.tokens) for job in jobs]
        known = [job.upto if job.last else job.upto + LOOK_AHEAD for job in jobs]
        lengths = [prompt + job.upto - begin for prompt, job, begin in zip(prompts, jobs, begins, strict=True)]
        sequences = [
            torch.cat([job.stream.timbre.tokens, torch.tensor(job.stream.tokens[begin:end], device=device)])
            for job, begin, end in zip(jobs, begins, known, strict=True)
        ]
        tokens = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
        full, trimmed = [len(sequence) for sequence in sequences], max(lengths)
        # The prompt is a cell of its own, before all others; padding is after all others.
        place = torch.arange(tokens.shape[1], device=device)
        spoken = place - torch.tensor(prompts, device=device)[:, None]
        cells = _cells(spoken + torch.tensor(begins, device=device)[:, None]).masked_fill_(spoken < 0, -1)

        hidden = self._encode(tokens, cells, torch.tensor(full, device=device), torch.tensor(lengths, device=device))
        frames = [FRAMES_PER_TOKEN * length for length in lengths]
        mean = flow.encoder_proj(hidden).transpose(1, 2)
        condition, noise = torch.zeros_like(mean), torch.zeros_like(mean)
        for i, (job, begin) in enumerate(zip(jobs, begins, strict=True)):
            stream, prompt = job.stream, FRAMES_PER_TOKEN * prompts[i]
            condition[i, :, :prompt] = stream.timbre.mel.T
            noise[i, :, :prompt] = stream.prompt_noise.T
            begin_frame = FRAMES_PER_TOKEN * begin
            noise[i, :, prompt : frames[i]] = stream.flow_noise(begin_frame, FRAMES_PER_TOKEN * job.upto).T
        valid = torch.arange(FRAMES_PER_TOKEN * trimmed, device=device) < torch.tensor(frames, device=device)[:, None]
        visible = self._visible(cells[:, :trimmed].repeat_interleave(FRAMES_PER_TOKEN, dim=1), valid)
        bias = mean.new_zeros(visible.shape).masked_fill_(~visible, -torch.inf)[:, None]
        speaker = torch.cat([job.stream.timbre.embedding for job in jobs])
        speaker = flow.spk_embed_affine_layer(F.normalize(speaker, dim=1))
        mel = self._solve(noise, mean, condition, speaker, valid[:, None].to(mean.dtype), bias)
        return [
            mel[i, :, FRAMES_PER_TOKEN * (prompts[i] + job.stream.rendered - begins[i]) : frames[i]]
            for i, job in enumerate(jobs)
        ]

    def _visible(self, cells: Tensor, valid: Tensor) -> Tensor:
        """Who may attend to whom, [batch, from, to]. The prompt is before all cells, padding after all others."""
        if self._attention == "full":
            return valid[:, None, :].expand(-1, valid.shape[1], -1)
        return (cells[:, None, :] <= cells[:, :, None]) & valid[:, None, :]

    def _encode(self, tokens: Tensor, cells: Tensor, known: Tensor, lengths: Tensor) -> Tensor:
        """`UpsampleConformerEncoder.forward`, by cells; [batch, 2 max(lengths), size]."""
        flow, encoder = self._flow, self._flow.encoder
        valid = torch.arange(tokens.shape[1], device=tokens.device) < known[:, None]
        x = flow.input_embedding(tokens) * valid[..., None]
        x, positions, _ = encoder.embed(x, valid[:, None])
        x = encoder.pre_lookahead_layer(x * valid[..., None])
        x = _conformer(encoder.encoders, x, positions, self._visible(cells, valid))
        # What was looked ahead to has served.
        trimmed = int(lengths.max())
        x, cells = x[:, :trimmed], cells[:, :trimmed].repeat_interleave(FRAMES_PER_TOKEN, dim=1)
        valid = torch.arange(trimmed * FRAMES_PER_TOKEN, device=tokens.device) < FRAMES_PER_TOKEN * lengths[:, None]
        x, _ = encoder.up_layer(x.transpose(1, 2).contiguous(), lengths)
        x, positions, _ = encoder.up_embed(x.transpose(1, 2).contiguous(), valid[:, None])
        x = _conformer(encoder.up_encoders, x, positions, self._visible(cells, valid))
        return encoder.after_norm(x)

    def _solve(self, x: Tensor, mean: Tensor, condition: Tensor, speaker: Tensor, mask: Tensor, bias: Tensor) -> Tensor:
        """Euler's method: Turbo's few steps of mean flow, or ten with guidance (`CausalConditionalCFM`)."""
        decoder, meanflow = self._flow.decoder, self._s3gen.meanflow
        times = torch.linspace(0, 1, self._flow_steps + 1, device=x.device)
        if meanflow:
            for time, then in pairwise(times):
                x = x + (then - time) * self._velocity(x, mean, condition, speaker, mask, bias, time, then)
            return x
        times = 1 - torch.cos(times * 0.5 * torch.pi)
        rate, batch = decoder.inference_cfg_rate, len(x)
        # The second half of the batch knows neither text nor voice.
        mean, condition, speaker = (torch.cat([part, torch.zeros_like(part)]) for part in (mean, condition, speaker))
        mask, bias = torch.cat([mask, mask]), torch.cat([bias, bias])
        for time, then in pairwise(times):
            both = self._velocity(torch.cat([x, x]), mean, condition, speaker, mask, bias, time)
            x = x + (then - time) * ((1 + rate) * both[:batch] - rate * both[batch:])
        return x

    def _velocity(
        self,
        x: Tensor,
        mean: Tensor,
        condition: Tensor,
        speaker: Tensor,
        mask: Tensor,
        bias: Tensor,
        time: Tensor,
        then: Tensor | None = None,
    ) -> Tensor:
        """`ConditionalDecoder.forward` with attention masks of our own."""
        estimator = self._flow.decoder.estimator
        embedded = estimator.time_mlp(estimator.time_embeddings(time[None]))
        if then is not None:
            until = estimator.time_mlp(estimator.time_embeddings(then[None]))
            embedded = estimator.time_embed_mixer(torch.cat([embedded, until], dim=1))
        x = torch.cat([x, mean, speaker[..., None].expand(-1, -1, x.shape[-1]), condition], dim=1)
        kept = x
        for resnet, blocks, resample in estimator.down_blocks:
            x = kept = _attended(blocks, resnet(x, mask, embedded), bias)
            x = resample(x * mask)
        for resnet, blocks in estimator.mid_blocks:
            x = _attended(blocks, resnet(x, mask, embedded), bias)
        for resnet, blocks, resample in estimator.up_blocks:
            x = _attended(blocks, resnet(torch.cat([x, kept], dim=1), mask, embedded), bias)
            x = resample(x * mask)
        return estimator.final_proj(estimator.final_block(x, mask) * mask) * mask

    # --- HiFT: mel to audio

    def _audio(self, jobs: Sequence[Job]) -> list[Tensor]:
        windows = [job.stream.mel for job in jobs]
        longest = max(window.shape[1] for window in windows) + _EXTENSION
        mel = torch.stack(
            [torch.cat([window, window[:, -1:].expand(-1, longest - window.shape[1])], dim=1) for window in windows]
        )
        pitch = self._hift.f0_predictor(mel)
        source = torch.stack([self._source(job, f0) for job, f0 in zip(jobs, pitch, strict=True)])
        audio = self._hift.decode(x=mel, s=source[:, None])
        return [self._heard(job, samples).cpu() for job, samples in zip(jobs, audio, strict=True)]

    def _source(self, job: Job, f0: Tensor) -> Tensor:
        """The excitation of a window, [samples]: what is settled, and what f0 [frames, Hz] makes of the rest.

        As `SourceModuleHnNSF`, but that phases and noise belong to the stream.
        """
        stream, module = job.stream, self._hift.m_source
        sine = module.l_sin_gen
        settled = len(stream.source) // FRAME
        known = stream.mel.shape[1]
        f0 = f0[settled:]
        harmonics = torch.arange(1, len(stream.phases) + 1, device=f0.device)
        # Cycles per frame, and where each frame begins; f0 is the same all through a frame.
        cycles = f0[:, None] * harmonics * (FRAME / sine.sampling_rate)
        begins = stream.phases + torch.cat([cycles.new_zeros(1, len(harmonics)), (cycles % 1).cumsum(dim=0)])
        within = torch.arange(1, FRAME + 1, device=f0.device) / FRAME
        angle = begins[:-1, :, None] + cycles[:, :, None] * within
        voiced = (f0 > sine.voiced_threshold).float()[:, None, None]
        first = stream.begin + settled
        frames = known - settled
        noise = torch.zeros_like(angle)
        noise[:frames] = stream.source_noise(first, first + frames).view(frames, len(harmonics), FRAME)
        loudness = voiced * sine.noise_std + (1 - voiced) * sine.sine_amp / 3
        waves = voiced * sine.sine_amp * torch.sin(2 * torch.pi * (angle % 1)) + loudness * noise
        new = module.l_tanh(module.l_linear(waves.transpose(1, 2))).flatten()
        source = torch.cat([stream.source, new])
        # What depends on mel that is yet to come is not settled.
        more = frames if job.last else max(0, frames - _F0_LOOK_AHEAD)
        stream.source = source[: (settled + more) * FRAME]
        stream.phases = begins[more] % 1
        return source

    def _heard(self, job: Job, audio: Tensor) -> Tensor:
        """Join a window's audio to what was heard, and keep what the next window needs."""
        stream = job.stream
        end = stream.begin + stream.mel.shape[1]
        held = len(stream.held) // FRAME
        new = audio[(FRAMES_PER_TOKEN * stream.rendered - held - stream.begin) * FRAME : (end - stream.begin) * FRAME]
        if held:
            new[: len(stream.held)] = self._fade * new[: len(stream.held)] + (1 - self._fade) * stream.held
        else:
            spill = self._s3gen.trim_fade  # Upstream's, against what spills over from the reference.
            new[: len(spill)] *= spill[: len(new)]
        stream.rendered = job.upto
        if job.last:
            return new
        stream.held = new[len(new) - HELD * FRAME :].clone()
        begin = max(stream.begin, end - HELD - _CONTEXT)
        stream.mel = stream.mel[:, begin - stream.begin :]
        stream.source = stream.source[(begin - stream.begin) * FRAME :]
        stream.begin = begin
        return new[: len(new) - HELD * FRAME]


def _conformer(layers: Any, x: Tensor, positions: Tensor, visible: Tensor) -> Tensor:
    """Layers of the encoder (`ConformerEncoderLayer`) over [batch, length, size].

    positions: encodings of the distances length - 1 to 1 - length, [1, 2 length - 1, size].
    Attention by distance as in Transformer-XL (arXiv 1901.02860, section 3.3), fused and without upstream's copies.
    """
    batch, length, _ = x.shape
    mask = x.new_zeros(visible.shape).masked_fill_(~visible, -torch.inf)[:, None]
    for layer in layers:
        attention, normed = layer.self_attn, layer.norm_mha(x)
        heads, size = attention.h, attention.d_k
        query, key, value, place = (
            project(what).unflatten(-1, (heads, size)).transpose(1, 2)
            for project, what in (
                (attention.linear_q, normed),
                (attention.linear_k, normed),
                (attention.linear_v, normed),
                (attention.linear_pos, positions),
            )
        )
        distances = (query + attention.pos_bias_v[:, None]) @ place.transpose(2, 3)
        # Row i of what is attended to begins with its distance to the first one: a row earlier, one further left.
        strides = (*distances.stride()[:2], distances.stride(2) - 1, 1)
        bias = distances.as_strided((batch, heads, length, length), strides, distances.storage_offset() + length - 1)
        bias = torch.add(mask, bias, alpha=size**-0.5)
        seen = F.scaled_dot_product_attention(query + attention.pos_bias_u[:, None], key, value, attn_mask=bias)
        x = x + attention.linear_out(seen.transpose(1, 2).flatten(2))
        x = x + layer.feed_forward(layer.norm_ff(x))
    return x


def _attended(blocks: Any, x: Tensor, bias: Tensor) -> Tensor:
    """Transformer blocks (`BasicTransformerBlock`) over [batch, channels, frames]."""
    x = x.transpose(1, 2)
    for block in blocks:
        attention, normed = block.attn1, block.norm1(x)
        query, key, value = (
            project(normed).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
            for project in (attention.to_q, attention.to_k, attention.to_v)
        )
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        x = x + attention.to_out[0](seen.transpose(1, 2).flatten(2))
        x = x + block.ff(block.norm3(x))
    return x.transpose(1, 2)
