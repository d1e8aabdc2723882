"""Which models there are, how they are loaded, and on what they compute."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chatterbox_service.engine import Samples, SpeechError, UnknownLanguage
from chatterbox_service.tokens import Sampling

log = logging.getLogger(__name__)

REFERENCE_SECONDS = 5.0
"""What a voice is cloned from must be longer."""

_CANGJIE = "Cangjie5_TC.json"
"""How Chinese characters are spelled, of the multilingual model's files."""


class ModelError(Exception):
    """A model that cannot be had, or a device; says what can."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A model of the family, as chatterbox-tts 0.1.7 has it."""

    name: str
    sampling: Sampling
    flow_steps: int
    exaggeration: float | None
    """How expressive it is where nobody says; `None`: it has no such control."""
    closing: tuple[int, ...] = ()
    """Speech tokens after the last: Turbo ends in 120 ms of silence."""


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "turbo",
            Sampling(0.8, top_k=1000, top_p=0.95, min_p=0.0, repetition_penalty=1.2, penalty_first=False),
            flow_steps=2,
            exaggeration=None,
            closing=(4299, 4299, 4299),
        ),
        Kind(
            "standard",
            Sampling(0.8, top_k=0, top_p=1.0, min_p=0.05, repetition_penalty=1.2, penalty_first=True, guidance=0.5),
            flow_steps=10,
            exaggeration=0.5,
        ),
        Kind(
            "multilingual",
            Sampling(0.8, top_k=0, top_p=1.0, min_p=0.05, repetition_penalty=2.0, penalty_first=True, guidance=0.5),
            flow_steps=10,
            exaggeration=0.5,
        ),
    )
}

_ELSEWHERE = {
    "flash": "Chatterbox-Flash is not part of chatterbox-tts",
    "nano": "Chatterbox Nano is not part of chatterbox-tts",
}


def kind_of(name: str) -> Kind:
    try:
        return KINDS[name]
    except KeyError:
        why = _ELSEWHERE.get(name, f"there is no model {name!r}")
        raise ModelError(f"{why}; choose one of {', '.join(KINDS)}") from None


def choose_device(wanted: str) -> tuple[str, str]:
    """A torch device and its description. `wanted`: auto, cuda, rocm, mps or cpu. Raises `ModelError`."""
    platform = "rocm" if torch.version.hip else "cuda"
    has_gpu, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    match wanted:
        case "auto":
            return choose_device(platform if has_gpu else "mps" if has_mps else "cpu")
        case "cuda" | "rocm":
            if wanted != platform:
                raise ModelError(f"this torch ({torch.__version__}) is built for {platform}, not for {wanted}")
            if not has_gpu:
                raise ModelError(f"torch {torch.__version__} finds no {wanted} device: is a driver installed?")
            return "cuda", f"{wanted} ({torch.cuda.get_device_name(0)})"  # ROCm's torch calls itself cuda.
        case "mps":
            if not has_mps:
                raise ModelError(f"torch {torch.__version__} finds no mps device")
            return "mps", "mps"
        case "cpu":
            return "cpu", f"cpu ({torch.get_num_threads()} threads)"
        case _:
            raise ModelError(f"there is no device {wanted!r}; choose one of auto, cuda, rocm, mps, cpu")


@dataclass(frozen=True, slots=True)
class Conditionals:
    """What makes a voice, as upstream prepares it: `T3Cond`, and what S3Gen takes (`S3Gen.embed_ref`)."""

    t3: Any
    gen: dict[str, Any]


class Model:
    """An upstream model, loaded."""

    def __init__(self, kind: Kind, upstream: Any) -> None:
        self.kind = kind
        self.upstream = upstream
        self.t3 = upstream.t3
        self.s3gen = upstream.s3gen
        self.marker = upstream.watermarker
        if self.t3.speech_emb.weight.is_cuda:  # On the CPU it would bound the number of streams.
            self.marker.perth_net.to("cuda")
        self.rate = int(upstream.sr)
        conds = upstream.conds
        self.builtin = None if conds is None else Conditionals(conds.t3, conds.gen)
        """The voice that came with the model, if any."""
        self._unread = _unread(upstream.tokenizer) if kind.name == "multilingual" else {}
        for language, lacking in self._unread.items():
            log.warning("a language cannot be read language=%s lacking=%s", language, lacking)
        if kind.name == "multilingual" and "ja" not in self._unread:
            upstream.tokenizer.text_to_tokens("今日は", language_id="ja")  # Reads its dictionary at the first use.

    @classmethod
    def load(cls, kind: Kind, device: str, folder: Path | None) -> Model:
        """From a folder, or from the hub. Raises `ModelError` where a file or the watermark is missing."""
        import perth

        if getattr(perth, "PerthImplicitWatermarker", None) is None:
            raise ModelError("resemble-perth could not load its watermark: it needs setuptools below 81")
        upstream = _upstream_class(kind)
        if folder is None:
            return cls(kind, upstream.from_pretrained(device))
        try:
            with _off_the_hub():
                loaded = upstream.from_local(folder, device)
        except FileNotFoundError as error:
            raise ModelError(f"{folder} holds no {kind.name} model: {error}") from error
        except OSError as error:  # spacy-pkuseg fetches a model of its own when it is first made.
            raise ModelError(f"the {kind.name} model could not be loaded from {folder}: {error}") from error
        if kind.name == "multilingual":
            _read_cangjie(loaded.tokenizer, folder)
        return cls(kind, loaded)

    def text_tokens(self, text: str, language: str | None) -> Tensor:
        """The text as the model reads it, [length]. Raises `UnknownLanguage`."""
        tokenizer, normalize = self.upstream.tokenizer, _punctuation(self.kind)
        if self.kind.name == "turbo":
            return tokenizer(normalize(text), return_tensors="pt", truncation=True).input_ids[0]
        if self.kind.name == "multilingual":
            languages = self.upstream.get_supported_languages()
            language = (language or "en").lower()
            if language not in languages:
                known = ", ".join(sorted(languages))
                raise UnknownLanguage(f"the model does not speak {language!r}; it speaks {known}")
            if lacking := self._unread.get(language):
                raise UnknownLanguage(f"{languages[language]} cannot be read on this machine: it lacks {lacking}")
            tokens = tokenizer.text_to_tokens(normalize(text), language_id=language)[0]
        else:
            tokens = tokenizer.text_to_tokens(normalize(text))[0]
        begin, end = (tokens.new_tensor([t]) for t in (self.t3.hp.start_text_token, self.t3.hp.stop_text_token))
        return torch.cat([begin, tokens, end])

    def conditionals(self, samples: Samples, rate: int) -> Conditionals:
        """Those of a recording. Raises `SpeechError` where it is too short, or silent."""
        import soundfile

        if len(samples) <= REFERENCE_SECONDS * rate:
            raise SpeechError(
                f"a voice needs more than {REFERENCE_SECONDS:.0f} s of speech; this is {len(samples) / rate:.1f} s"
            )
        if float(np.abs(samples).max()) < 1e-3:
            raise SpeechError("the recording is silent")
        wav = io.BytesIO()
        soundfile.write(wav, samples, rate, format="WAV", subtype="FLOAT")
        wav.seek(0)
        with torch.inference_mode():
            self.upstream.prepare_conditionals(wav)
        conds, self.upstream.conds = self.upstream.conds, None
        return Conditionals(conds.t3, conds.gen)

    def neutral(self) -> Conditionals:
        """Nobody's voice, of the size of a real one: to warm up with."""
        from chatterbox.models.t3.modules.cond_enc import T3Cond

        hp, device = self.t3.hp, self.t3.speech_emb.weight.device
        tokens = torch.zeros(1, 250, dtype=torch.long, device=device)
        return Conditionals(
            T3Cond(
                speaker_emb=torch.zeros(1, hp.speaker_embed_size, device=device),
                cond_prompt_speech_tokens=tokens.new_zeros(1, hp.speech_cond_prompt_len),
            ),
            {
                "prompt_token": tokens,
                "prompt_feat": torch.zeros(1, 500, 80, device=device),
                "embedding": torch.ones(1, 192, device=device),
            },
        )

    def t3_conditioning(self, conditionals: Conditionals, exaggeration: float | None) -> Any:
        """A voice for T3, as expressive as asked."""
        from chatterbox.models.t3.modules.cond_enc import T3Cond

        given, emotion = conditionals.t3, self.kind.exaggeration
        device = self.t3.speech_emb.weight.device
        amount = 0.5 if emotion is None else emotion if exaggeration is None else exaggeration
        return T3Cond(
            speaker_emb=given.speaker_emb.to(device),
            cond_prompt_speech_tokens=given.cond_prompt_speech_tokens.to(device),
            emotion_adv=torch.full((1, 1, 1), amount, device=device),
        )


def _upstream_class(kind: Kind) -> Any:
    match kind.name:
        case "turbo":
            from chatterbox.tts_turbo import ChatterboxTurboTTS as Upstream
        case "standard":
            from chatterbox.tts import ChatterboxTTS as Upstream
        case _:
            from chatterbox.mtl_tts import ChatterboxMultilingualTTS as Upstream
    return Upstream


@contextmanager
def _off_the_hub() -> Iterator[None]:
    """Upstream asks the hub for a file that is in the folder, and where there is no way out asks for half a minute."""
    from huggingface_hub import constants

    kept, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = kept


def _read_cangjie(tokenizer: Any, folder: Path) -> None:
    """Upstream's tokenizer asks the hub for this file, wherever the others are."""
    converter, file = tokenizer.cangjie_converter, folder / _CANGJIE
    if converter.word2cj or not file.exists():
        return
    for entry in json.loads(file.read_text(encoding="utf-8")):
        word, code = entry.split("\t")[:2]
        converter.word2cj[word] = code
        converter.cj2word.setdefault(code, []).append(word)


def _unread(tokenizer: Any) -> Mapping[str, str]:
    """Languages whose script the multilingual model's tokenizer cannot read, and what it lacks for each.

    Upstream takes such text as it is, and what it says then is no speech.
    """
    lacking = {}
    if not tokenizer.cangjie_converter.word2cj:
        lacking["zh"] = f"the model's file {_CANGJIE}"
    if find_spec("pykakasi") is None:
        lacking["ja"] = "the package pykakasi"
    return lacking


def _punctuation(kind: Kind) -> Callable[[str], str]:
    match kind.name:
        case "turbo":
            from chatterbox.tts_turbo import punc_norm
        case "standard":
            from chatterbox.tts import punc_norm
        case _:
            from chatterbox.mtl_tts import punc_norm
    normalised: Callable[[str], str] = punc_norm
    return normalised
