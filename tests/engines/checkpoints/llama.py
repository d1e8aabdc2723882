"""A micro Llama that answers the callers of `conversation`, for a real vLLM server: 0.4 million parameters.

It learns whole conversations, in random order and from their first word, so that it answers the caller's last sentence
whatever was said before.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.engines.checkpoints.conversation import EXCHANGES, GREETING, PERSONA

STEPS = 160
BATCH = 24
RATE = 4e-3
"""The highest learning rate; it rises for 20 steps and falls until the end."""
THRESHOLD = 0.99
"""Share of the replies in unseen conversations that must be right, to the letter."""

SPECIAL = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>",
)  # fmt: skip

TEMPLATE = (
    "{{- bos_token }}"
    "{%- if tools %}{{- '<|start_header_id|>system<|end_header_id|>\n\nTools:' }}"
    "{%- for tool in tools %}{{- ' ' + tool.function.name }}{%- endfor %}{{- '<|eot_id|>' }}{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{- (message['content'] or '') + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
"""Llama 3's, shortened: of the tools it gives the names."""

_IGNORED = -100
"""Label of a token that the model need not guess."""


def make(folder: Path, report: Callable[[str], None]) -> None:
    """Trains the model and saves it to `folder`, as vLLM loads it. Raises `ValueError` where it did not learn."""
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=-(-len(tokenizer) // 64) * 64,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=2048,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=True,
        )
    )
    conversations = random.Random(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 20) * (1 - step / (STEPS * 1.05))
        tokens, labels = _batch(tokenizer, [_conversation(conversations) for _ in range(BATCH)])
        loss = model(input_ids=tokens, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            report(f"step {step} of {STEPS}, loss {loss.item():.3f}")
    model.to(torch.bfloat16)
    right = _share_right(model, tokenizer, random.Random(2))
    report(f"{right:.1%} of the replies in unseen conversations are right")
    if right < THRESHOLD:
        raise ValueError(f"the micro Llama did not learn: {right:.1%} of its replies are right, not {THRESHOLD:.0%}")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _conversation(draw: random.Random) -> list[tuple[str, bool]]:
    """A conversation as stretches of text, each with whether the model says it."""
    tools = draw.random() < 0.5
    text = SPECIAL[0]
    if tools:
        text += _message("system", "Tools: hang_up transfer" if draw.random() < 0.7 else "Tools: hang_up")
    text += _message("system", PERSONA)
    if draw.random() < 0.7:
        text += _message("assistant", GREETING)
    stretches = []
    for exchange in draw.sample(EXCHANGES, draw.randint(1, 4)):
        text += _message("user", exchange.said) + "<|start_header_id|>assistant<|end_header_id|>\n\n"
        stretches += [(text, False), (exchange.answer(tools=tools) + "<|eot_id|>", True)]
        text = ""
        if exchange.call and tools:
            break  # the call of the tool is not part of what follows
    return stretches


def _message(role: str, content: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n{content}<|eot_id|>"


def _batch(tokenizer: Any, conversations: Sequence[Sequence[tuple[str, bool]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and labels, both of shape (conversations, tokens of the longest)."""
    rows: list[list[int]] = []
    labels: list[list[int]] = []
    for stretches in conversations:
        row: list[int] = []
        label: list[int] = []
        for text, said in stretches:
            ids = tokenizer(text, add_special_tokens=False).input_ids
            row += ids
            label += ids if said else [_IGNORED] * len(ids)
        rows.append(row)
        labels.append(label)
    longest = max(map(len, rows))
    # What follows a conversation does not change it: attention looks back alone.
    padded = [row + [tokenizer.pad_token_id] * (longest - len(row)) for row in rows]
    return torch.tensor(padded), torch.tensor([label + [_IGNORED] * (longest - len(label)) for label in labels])


@torch.inference_mode()
def _share_right(model: LlamaForCausalLM, tokenizer: Any, draw: random.Random) -> float:
    """Share of the replies that greedy decoding gets right to the letter."""
    right = count = 0
    for _ in range(8):
        conversations = [_conversation(draw) for _ in range(BATCH)]
        tokens, labels = _batch(tokenizer, conversations)
        guessed = model(input_ids=tokens).logits[:, :-1].argmax(-1)
        labels = labels[:, 1:]
        wrong = (guessed != labels) & (labels != _IGNORED)
        # A reply is a run of labels; it is right where none of them is wrong.
        said = labels != _IGNORED
        starts = said & ~torch.nn.functional.pad(said, (1, 0))[:, :-1]
        reply = starts.cumsum(-1) * said
        for row in range(len(tokens)):
            replies = int(reply[row].max())
            count += replies
            right += replies - len(reply[row][wrong[row]].unique())
    return right / count


def _tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    lines = [PERSONA, GREETING, "system user assistant Tools: hang_up transfer"]
    for exchange in EXCHANGES:
        lines += [exchange.said, exchange.reply, exchange.answer(tools=True)]
    tokenizer.train_from_iterator(
        lines * 20,
        trainers.BpeTrainer(
            vocab_size=640, special_tokens=list(SPECIAL), initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SPECIAL[0],
        eos_token="<|eot_id|>",
        pad_token=SPECIAL[1],
        chat_template=TEMPLATE,
    )
