"""Chatterbox as it is published, on micro checkpoints: what our server's speech is compared with.

Runs where `chatterbox-tts` is installed, which is not where the connector is.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.engines.checkpoints import store

torch = pytest.importorskip("torch", reason="runs in the environment of Chatterbox: see `make test-engines`")

# Of the libraries that it stands on.
pytestmark = pytest.mark.filterwarnings("ignore")

SENTENCE = "We open at nine on Saturday."


@pytest.fixture(scope="module", params=["chatterbox-turbo", "chatterbox"])
def model(request: pytest.FixtureRequest) -> Any:
    from tests.engines.checkpoints.chatterbox import load

    torch.set_num_threads(1)
    return load(store.folder(request.param))


def test_a_sentence_becomes_sound_at_24_khz(model: Any) -> None:
    torch.manual_seed(3)
    speech = model.generate(SENTENCE)
    assert model.sr == 24000
    assert speech.shape[0] == 1
    assert 0.12 <= speech.shape[1] / model.sr <= 10
    assert torch.isfinite(speech).all()
    assert speech.abs().max() > 0.01
    assert speech.abs().max() <= 1


def test_the_same_seed_says_the_same(model: Any) -> None:
    first, second, other = (_spoken(model, seed) for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert first.shape != other.shape or not torch.equal(first, other)


def test_a_voice_is_cloned_from_a_recording(model: Any, tmp_path: Any) -> None:
    import numpy as np
    import soundfile

    from tests.fakes.voices import spoken

    recording = tmp_path / "voice.wav"
    speech = spoken("I am somebody else, and I will lend you my voice for a while. " * 2, "flite", "rms", 24000)
    soundfile.write(recording, speech.astype(np.float32) / 32768, 24000)
    built_in = model.conds
    try:
        model.prepare_conditionals(str(recording))
        cloned = model.conds
        assert not torch.equal(cloned.t3.speaker_emb, built_in.t3.speaker_emb)
        assert cloned.gen["prompt_feat"].shape[-1] == 80
        assert model.generate("Hello.").shape[1] > 0
    finally:
        model.conds = built_in


def test_what_it_says_carries_its_watermark(model: Any) -> None:
    speech = model.generate(SENTENCE).squeeze(0).numpy()
    assert model.watermarker.get_watermark(speech, sample_rate=model.sr) > 0.5


def _spoken(model: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    return model.generate(SENTENCE)
