"""Models to measure: real classes with random weights, at their true size or at that of the micro checkpoints.

What they say is noise; what they cost is what real weights cost. No file is read or written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from chatterbox_service.models import KINDS, Model

REPLY = (
    "Thank you for waiting, I have found your order from the twelfth of May. "
    "It left our warehouse yesterday in the afternoon, and will be with you by Thursday. "
    "Would you like me to send you a message when it is on its way?"
)
"""Three sentences."""

SIZES = ("micro", "full")

MICRO_T3 = {"n_layer": 5, "n_embd": 512, "hidden_size": 512, "n_head": 8}
"""Of Turbo: 16 of 302 million parameters, a twentieth, where flow and HiFT have a sixth of their size. The T3 of the
tests' checkpoint is a four-hundredth: with it, the vocoder would be all that is measured."""


def make_model(kind: str, size: str, device: str) -> Model:
    """`turbo` or `standard`, as `from_local` would make it. Of numbers drawn with a fixed seed."""
    from chatterbox.models.s3gen import S3Gen
    from chatterbox.models.t3 import T3
    from chatterbox.models.t3.modules.t3_config import T3Config
    from chatterbox.models.voice_encoder import VoiceEncoder

    if size == "micro":
        from chatterbox.models.t3.llama_configs import LLAMA_CONFIGS

        from tests.engines.checkpoints.chatterbox import shrink

        shrink()
        LLAMA_CONFIGS["GPT2_medium"].update(MICRO_T3)
    torch.manual_seed(0)
    if kind == "turbo":
        from chatterbox.tts_turbo import ChatterboxTurboTTS as Upstream

        sizes = T3Config(text_tokens_dict_size=50276)
        sizes.llama_config_name = "GPT2_medium"
        sizes.speech_tokens_dict_size = 6563
        sizes.input_pos_emb = None
        sizes.speech_cond_prompt_len = 375
        sizes.use_perceiver_resampler = False
        sizes.emotion_adv = False
        tokenizer: Any = _TurboTokenizer()
    else:
        from chatterbox.tts import ChatterboxTTS as Upstream

        sizes = T3Config(text_tokens_dict_size=704)
        tokenizer = _StandardTokenizer()
    parts = [part.to(device).eval() for part in (T3(sizes), S3Gen(meanflow=kind == "turbo"), VoiceEncoder())]
    upstream = Upstream(*parts, tokenizer, device)
    upstream.conds = _conditionals(upstream, device)
    return Model(KINDS[kind], upstream)


def _conditionals(upstream: Any, device: str) -> Any:
    """Of somebody who spoke for ten seconds, and whom nobody knows."""
    from chatterbox.models.t3.modules.cond_enc import T3Cond
    from chatterbox.tts_turbo import Conditionals

    random = np.random.default_rng(0)

    def tokens(count: int) -> torch.Tensor:
        return torch.from_numpy(random.integers(6561, size=(1, count))).to(device)

    t3 = T3Cond(
        speaker_emb=torch.randn(1, 256, device=device),
        cond_prompt_speech_tokens=tokens(upstream.t3.hp.speech_cond_prompt_len),
        emotion_adv=torch.full((1, 1, 1), 0.5, device=device),
    )
    reference = {
        "prompt_token": tokens(250),
        "prompt_token_len": torch.tensor([250], device=device),
        "prompt_feat": torch.randn(1, 500, 80, device=device),
        "prompt_feat_len": None,
        "embedding": torch.randn(1, 192, device=device),
    }
    return Conditionals(t3, reference)


class _Encoded:
    def __init__(self, ids: torch.Tensor) -> None:
        self.input_ids = ids


class _TurboTokenizer:
    """Four characters a token, as GPT-2's has them of English."""

    def __call__(self, text: str, **_: object) -> _Encoded:
        return _Encoded(torch.tensor([[ord(letter) for letter in text[::4]]]))


class _StandardTokenizer:
    """Two characters a token."""

    def text_to_tokens(self, text: str) -> torch.Tensor:
        return torch.tensor([[10 + ord(letter) % 200 for letter in text[::2]]])
