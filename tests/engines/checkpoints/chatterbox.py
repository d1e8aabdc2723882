"""Micro Chatterbox: the real classes of `chatterbox-tts` with fewer and smaller layers, saved as the real weights are.

What they say is noise; every line of code that a real checkpoint runs is run. The classes' sizes are written in their
code, so whoever loads one of these checkpoints calls `shrink` first.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

TURBO_TEXT_TOKENS = 50276
WEIGHTS = {
    "turbo": ("t3_turbo_v1.safetensors", "s3gen_meanflow.safetensors", "ve.safetensors"),
    "standard": ("t3_cfg.safetensors", "s3gen.safetensors", "ve.safetensors"),
    "multilingual": ("t3_mtl23ls_v2.safetensors", "s3gen.pt", "ve.pt"),
}
"""The files of T3, S3Gen and the voice encoder, as each kind's `from_local` looks for them."""
CANGJIE = {"我": "hqi", "星": "ahqm", "期": "tcb", "六": "yc", "早": "aj", "上": "ym", "九": "kn", "点": "yrf"}
"""How some Chinese characters are spelled; the real model's file has tens of thousands."""
STOP_TOKEN = 6562
"""Of speech tokens."""
TURBO_STOP_BIAS = 4.0
"""What a stop is likelier by: of the thousand tokens that are drawn from, it is then one in fifty."""
STANDARD_TOKENS = 30
"""Speech tokens of every text, of 40 ms each: the standard model knows the position, and never stops by chance."""
SHARPER = 10.0
"""So many times better does the standard model's attention tell positions apart than with fresh weights..."""
HEEDED = 20.0
"""...and so many times more does it add: else what is said would hardly depend on expression and language."""
REFERENCE_SECONDS = 10.5
LOUDER = 2.0
"""Added to the logarithm of each of the vocoder's magnitudes: its noise is then as loud as speech on a telephone."""


def shrink() -> None:
    """Makes Chatterbox's classes, where they are built from now on in this process, a thirtieth of their size."""
    from chatterbox.models.s3gen import s3gen
    from chatterbox.models.t3.llama_configs import LLAMA_CONFIGS
    from s3tokenizer.model_v2 import ModelConfig, S3TokenizerV2

    # The perceiver of the standard model wants a width of 1024.
    LLAMA_CONFIGS["Llama_520M"].update(num_hidden_layers=2, intermediate_size=256)
    LLAMA_CONFIGS["GPT2_medium"].update(n_layer=1, n_embd=256, hidden_size=256, n_head=4)
    s3gen.UpsampleConformerEncoder = _smaller(s3gen.UpsampleConformerEncoder, num_blocks=1, linear_units=256)
    s3gen.ConditionalDecoder = _smaller(s3gen.ConditionalDecoder, num_mid_blocks=1, n_blocks=1, num_heads=2)
    s3gen.HiFTGenerator = _smaller(s3gen.HiFTGenerator, base_channels=64)
    # Chatterbox's tokenizer of speech takes these as they are.
    S3TokenizerV2.__init__.__defaults__ = (ModelConfig(n_audio_layer=1, n_audio_state=128, n_audio_head=2),)


def _smaller(kind: Any, **sizes: Any) -> Callable[..., Any]:
    """`kind` made with `sizes`, whatever its caller says; made smaller twice, it is made smaller once."""
    if isinstance(kind, _Smaller):
        return kind
    return _Smaller(kind, sizes)


class _Smaller:
    def __init__(self, kind: Any, sizes: dict[str, Any]) -> None:
        self._kind = kind
        self._sizes = sizes

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._kind(*arguments, **{**named, **self._sizes})


def make(folder: Path, report: Callable[[str], None], *, kind: str) -> None:
    """Saves a micro Chatterbox of a kind of `WEIGHTS` with a voice to `folder`, as `from_local` loads it."""
    import torch
    from chatterbox.models.s3gen import S3Gen
    from chatterbox.models.t3 import T3
    from chatterbox.models.t3.modules.t3_config import T3Config
    from chatterbox.models.voice_encoder import VoiceEncoder
    from safetensors.torch import save_file

    torch.manual_seed(0)
    shrink()
    turbo = kind == "turbo"
    if turbo:
        # As ChatterboxTurboTTS.from_local has it.
        sizes = T3Config(text_tokens_dict_size=TURBO_TEXT_TOKENS)
        sizes.llama_config_name = "GPT2_medium"
        sizes.speech_tokens_dict_size = 6563
        sizes.input_pos_emb = None
        sizes.speech_cond_prompt_len = 375
        sizes.use_perceiver_resampler = False
        sizes.emotion_adv = False
    else:
        sizes = T3Config.multilingual() if kind == "multilingual" else T3Config.english_only()
    t3, s3gen, encoder = T3(sizes), S3Gen(meanflow=turbo), VoiceEncoder()
    with torch.no_grad():
        if turbo:
            t3.speech_head.bias[STOP_TOKEN] += TURBO_STOP_BIAS
        else:
            _heed(t3)
            _stop_at(t3, STANDARD_TOKENS)
        magnitudes = s3gen.mel2wav.istft_params["n_fft"] // 2 + 1
        s3gen.mel2wav.conv_post.bias[:magnitudes] += LOUDER
    for name, part in zip(WEIGHTS[kind], (t3, s3gen, encoder), strict=True):
        weights = {key: weight.contiguous().clone() for key, weight in part.state_dict().items()}
        (torch.save if name.endswith(".pt") else save_file)(weights, folder / name)
    tokenizers = {"turbo": _turbo_tokenizer, "standard": _standard_tokenizer, "multilingual": _multilingual_tokenizer}
    tokenizers[kind](folder)
    report("giving it a voice")
    _add_voice(folder)


def load(folder: Path, device: str = "cpu") -> Any:
    """The upstream object of the checkpoint in `folder`: of the class that looks for the files that are there."""
    shrink()
    if (folder / WEIGHTS["turbo"][0]).exists():
        from chatterbox.tts_turbo import ChatterboxTurboTTS as Upstream
    elif (folder / WEIGHTS["standard"][0]).exists():
        from chatterbox.tts import ChatterboxTTS as Upstream
    else:
        from chatterbox.mtl_tts import ChatterboxMultilingualTTS as Upstream
    return Upstream.from_local(folder, device)


def _heed(t3: Any) -> None:
    for layer in t3.tfmr.layers:
        layer.self_attn.q_proj.weight *= SHARPER
        layer.self_attn.o_proj.weight *= HEEDED


def _stop_at(t3: Any, tokens: int) -> None:
    """Gives the stop a dimension of the hidden state to itself, and the position says there when it is due."""
    for embeddings in (t3.speech_emb, t3.text_emb):
        embeddings.weight[:, 0] = 0
    positions = t3.speech_pos_emb.emb.weight
    positions[:, 0] = -10
    positions[tokens:, 0] = 30
    t3.speech_head.weight[:, 0] = 0
    t3.speech_head.weight[STOP_TOKEN] = 0
    t3.speech_head.weight[STOP_TOKEN, 0] = 3


def _add_voice(folder: Path) -> None:
    """Has upstream make the conditionals of the built-in voice."""
    import numpy as np
    import soundfile

    from tests.fakes.voices import spoken

    rate = 24000
    speech = spoken("This is the voice that will answer you on the telephone. " * 4, "flite", "slt", rate)
    with TemporaryDirectory() as work:
        recording = Path(work) / "voice.wav"
        soundfile.write(recording, speech[: int(REFERENCE_SECONDS * rate)].astype(np.float32) / 32768, rate)
        model = load(folder)
        model.prepare_conditionals(str(recording))
    model.conds.save(folder / "conds.pt")


def _standard_tokenizer(folder: Path) -> None:
    """Letters, as the standard model spells its texts."""
    _save_letters(folder / "tokenizer.json")


def _multilingual_tokenizer(folder: Path) -> None:
    """Letters, those of other scripts too, the names of the languages, and how Chinese characters are spelled."""
    from chatterbox.mtl_tts import SUPPORTED_LANGUAGES

    # Of Unicode: Latin, combining marks to Cyrillic, Hebrew and Arabic, Devanagari, Hangul's letters, kana.
    scripts = ((0xA1, 0x180), (0x300, 0x460), (0x5D0, 0x653), (0x900, 0x970), (0x1100, 0x1200), (0x3001, 0x3100))
    names = [f"[{language}]" for language in SUPPORTED_LANGUAGES]
    strokes = [f"[cj_{letter}]" for letter in (*string.ascii_lowercase, ".")]
    letters = "".join(chr(point) for begin, end in scripts for point in range(begin, end))
    _save_letters(folder / "grapheme_mtl_merged_expanded_v1.json", (*names, *strokes), letters)
    spelled = [f"{character}\t{code}" for character, code in CANGJIE.items()]
    (folder / "Cangjie5_TC.json").write_text(json.dumps(spelled, ensure_ascii=False), encoding="utf-8")


def _save_letters(file: Path, special: Sequence[str] = (), letters: str = "") -> None:
    """A tokenizer that spells: ASCII and the start of a text in its first 256 tokens, then what is `special`."""
    from tokenizers import Tokenizer, models

    marks = ("[STOP]", "[UNK]", "[SPACE]")
    tokens = [*marks, *string.ascii_letters, *string.digits, *string.punctuation]
    tokens += [f"unsaid{n}" for n in range(len(tokens), 255)] + ["[START]", *special, *letters]
    tokenizer = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(tokens)}, merges=[], unk_token="[UNK]"))
    tokenizer.add_special_tokens([*marks, "[START]", *special])
    tokenizer.save(str(file))


def _turbo_tokenizer(folder: Path) -> None:
    """Bytes, in a vocabulary of GPT-2's size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens += [f"unsaid{n}" for n in range(len(tokens), TURBO_TEXT_TOKENS - 1)]
    tokenizer = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(folder)


make_turbo = partial(make, kind="turbo")
make_standard = partial(make, kind="standard")
make_multilingual = partial(make, kind="multilingual")
