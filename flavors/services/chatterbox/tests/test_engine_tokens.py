"""Speech tokens: upstream's, and each stream's own, whoever else speaks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests import micro
from tests.micro import torch

TEXT = "We open at nine on Saturday."


def make_stepper(kind: str, guidance: float | None = None) -> tuple[Any, Any]:
    """A stepper, and the prefix of the built-in voice. `guidance`: its weight, where it is not the model's own."""
    from chatterbox_service.tokens import Stepper

    model = micro.model(kind)
    usual = model.kind.sampling
    stepper = Stepper(model.t3, usual if guidance is None else replace(usual, guidance=guidance))
    return stepper, stepper.prefix(model.t3_conditioning(model.builtin, None))


def make_stream(kind: str, prefix: Any, text: str = TEXT, seed: int = 0, **fields: Any) -> Any:
    from chatterbox_service.tokens import TokenStream

    settings = {"temperature": 0.8, "minimum": 40, "maximum": 40, "repeats": 1000} | fields
    text_tokens = micro.model(kind).text_tokens(text, None)
    return TokenStream(text_tokens, prefix, np.random.default_rng(seed), **settings)


@pytest.fixture
def never_stops() -> Iterator[None]:
    """The micro Turbo would rather stop than speak."""
    bias = micro.model("turbo").t3.speech_head.bias
    kept = bias.detach().clone()
    with torch.no_grad():
        bias[6562] = -100
    yield
    with torch.no_grad():
        bias.copy_(kept)


@pytest.fixture
def unaligned() -> Iterator[None]:
    """Upstream watches how the multilingual model's attention moves along the text, in layers that a micro model has
    not; nor do we."""
    sizes = micro.model("multilingual").t3.hp
    kept, sizes.text_tokens_dict_size = sizes.text_tokens_dict_size, -1
    yield
    sizes.text_tokens_dict_size = kept


@pytest.mark.usefixtures("never_stops", "unaligned")
@pytest.mark.parametrize(
    ("kind", "guidance"), [("turbo", 0.0), ("standard", 0.5), ("standard", 1.0), ("multilingual", 0.5)]
)
def test_each_token_is_as_likely_as_upstreams(kind: str, guidance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    stepper, prefix = make_stepper(kind, guidance)
    ours: list[Any] = []
    likelihoods = stepper._likelihoods

    # The stepper draws as ever; what it draws from is kept.
    def noted(*args: Any) -> Any:
        of_each, tokens = likelihoods(*args)
        ours.append(of_each.new_zeros(1, stepper._vocabulary).scatter_(1, tokens, of_each))
        return of_each, tokens

    monkeypatch.setattr(stepper, "_likelihoods", noted)
    stream = make_stream(kind, prefix, minimum=0, maximum=40)
    stepper.join([stream])
    assert stepper.rows == (2 if guidance else 1)
    drawn = [stream._last]
    while stepper.streams:
        stepper.step()
        drawn.append(stream._last)
    assert len(drawn) >= 15

    # Upstream is made to say the same, for a tie that rounding decides would make two texts of them.
    theirs: list[Any] = []

    def dictated(likelihoods: Any, num_samples: int) -> Any:
        assert num_samples == 1
        theirs.append(likelihoods)
        return torch.tensor([[drawn[len(theirs) - 1]]])

    monkeypatch.setattr(torch, "multinomial", dictated)
    model = micro.model(kind)
    usual, t3, conditioning = model.kind.sampling, model.t3, model.t3_conditioning(model.builtin, None)
    text = stream.text[None].long()
    if kind == "turbo":
        t3.inference_turbo(conditioning, text, max_gen_len=len(drawn) - 1)
    else:
        t3.inference(
            t3_cond=conditioning,
            text_tokens=torch.cat([text, text]),
            max_new_tokens=len(drawn),
            top_p=usual.top_p,
            repetition_penalty=usual.repetition_penalty,
            cfg_weight=guidance,
        )
    assert len(theirs) == len(ours)
    for one, other in zip(ours, theirs, strict=True):
        # A filter whose bound a token meets may keep it here and not there.
        assert (one - other).abs().sum() < 0.001
    assert max((other > 0).sum() for other in theirs) > 100


def test_guidance_decides_what_is_said() -> None:
    said = []
    for guidance in (0.0, 0.5, 2.0):
        stepper, prefix = make_stepper("standard", guidance)
        stream = make_stream("standard", prefix, minimum=0, maximum=24)
        stepper.join([stream])
        while stepper.streams:
            stepper.step()
        said.append(tuple(stream.tokens))
    assert len(set(said)) == 3


@pytest.mark.parametrize("kind", ["turbo", "standard"])
def test_a_streams_tokens_do_not_depend_on_who_joins_and_leaves(kind: str) -> None:
    stepper, prefix = make_stepper(kind)
    alone = make_stream(kind, prefix, seed=7)
    stepper.join([alone])
    while stepper.streams:
        stepper.step()

    first = make_stream(kind, prefix, "Somebody who spoke before, and at some length.", seed=1)
    watched, last = make_stream(kind, prefix, seed=7), make_stream(kind, prefix, "Last.", seed=2)
    stepper.join([first])
    for _ in range(5):
        stepper.step()
    stepper.join([watched, make_stream(kind, prefix, "Somebody else, at the same time.", seed=3)])
    for step in range(60):
        if step == 4:
            stepper.join([last])
        if step == 9:
            stepper.leave(first)
        stepper.step()
    assert not stepper.streams
    assert watched.tokens == alone.tokens
    assert len(alone.tokens) > 30


def test_a_stream_that_left_can_leave_again() -> None:
    stepper, prefix = make_stepper("turbo")
    streams = [make_stream("turbo", prefix, seed=seed) for seed in range(3)]
    stepper.join(streams)
    stepper.leave(streams[0])
    stepper.leave(streams[0])
    assert list(map(id, stepper.streams)) == [id(streams[2]), id(streams[1])]


def test_a_text_is_neither_cut_short_nor_endless() -> None:
    stepper, prefix = make_stepper("standard")
    ends = make_stream("standard", prefix, minimum=4, maximum=500)
    runs_away = make_stream("standard", prefix, minimum=10_000, maximum=60)
    stepper.join([ends, runs_away])
    while stepper.streams:
        stepper.step()
    assert ends.ended
    assert not ends.ran_away
    assert len(ends.tokens) <= 31
    assert runs_away.ran_away
    assert 31 < len(runs_away.tokens) <= 60


def test_a_model_that_is_stuck_is_stopped() -> None:
    stepper, prefix = make_stepper("turbo")
    stuck = make_stream("turbo", prefix, minimum=500, maximum=500, repeats=1)
    stepper.join([stuck])
    while stepper.streams:
        stepper.step()
    assert stuck.ran_away
    assert len(stuck.tokens) == 1
