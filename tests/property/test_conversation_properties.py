"""Properties of what turns audio into turns and text into pieces."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from connector.config.model import TurnSettings
from connector.interfaces import Role
from connector.pipeline.history import History
from connector.pipeline.script import Script
from connector.pipeline.sentences import LONGEST, SentenceSplitter, split
from connector.turn.endpointing import Endpointing, SpeechEnded, SpeechStarted

texts = st.text(
    st.one_of(st.sampled_from("abc XYZ 0123 .!?…,;:\n\t\"')(-。 "), st.characters(exclude_categories=("Cs",))),
    max_size=900,
) | st.lists(
    st.sampled_from(
        ["Hello", "Dr.", "e.g.", "3.5", "1.", "U.S.", "No.", "well...", "yes,", "why?", "stop!", "\n", "a" * 80]
    )
).map(" ".join)


@given(texts)
def test_pieces_are_the_text_and_nothing_but_the_text(text: str) -> None:
    pieces = split(text)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(piece and piece == " ".join(piece.split()) for piece in pieces)
    assert all(len(piece) <= LONGEST or piece.startswith("```") for piece in pieces)


@given(texts, st.lists(st.integers(0, 20)))
def test_pieces_do_not_depend_on_how_the_stream_was_chunked(text: str, sizes: list[int]) -> None:
    splitter = SentenceSplitter()
    pieces: list[str] = []
    cuts = [0, *accumulate(sizes), len(text)]
    for start, end in pairwise(sorted(min(cut, len(text)) for cut in cuts)):
        pieces += splitter.push(text[start:end])
    assert pieces + splitter.flush() == split(text)


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.3, 0.45, 0.6, 1.0]), st.integers(1, 60)), max_size=40),
    st.sampled_from([0.01, 0.02, 0.032]),
    st.sampled_from([0.03, 0.09, 0.16]),
)
def test_turns_are_in_order_and_as_long_as_the_settings_say(
    stretches: list[tuple[float, int]], window: float, needed: float
) -> None:
    settings = TurnSettings(max_seconds=5.0)
    endpointing = Endpointing(settings)
    decisions: list[SpeechStarted | SpeechEnded] = []
    probabilities = [probability for probability, count in stretches for _ in range(count)]
    for index, probability in enumerate(probabilities):
        end = (index + 1) * window
        decision = endpointing.feed(end, window, probability, needed)
        if decision is not None:
            assert decision.at == end
            decisions.append(decision)
    assert all(isinstance(decision, SpeechStarted) for decision in decisions[::2])
    assert all(isinstance(decision, SpeechEnded) for decision in decisions[1::2])
    before = 0.0
    for started, ended in zip(decisions[::2], decisions[1::2], strict=False):
        assert isinstance(started, SpeechStarted)
        assert isinstance(ended, SpeechEnded)
        assert before - 1e-6 <= started.onset <= started.at <= ended.at
        assert started.at - started.onset >= needed - 1e-6
        assert started.onset < ended.end <= ended.at <= started.onset + settings.max_seconds + window + 1e-6
        assert ended.cut or ended.at - ended.end >= settings.end_silence - window / 2 - 1e-6
        before = ended.end


@given(st.lists(st.tuples(st.text("abc .é", min_size=1, max_size=60), st.floats(0.05, 5.0)), max_size=8), st.data())
def test_what_was_heard_grows_with_the_position(pieces: list[tuple[str, float]], data: st.DataObject) -> None:
    script = Script()
    for text, seconds in pieces:
        script.begin(" ".join(text.split()))
        script.add(seconds)
    script.end()
    whole = script.heard(math.inf)
    positions = sorted(data.draw(st.lists(st.floats(0, script.seconds + 1))))
    heard = [script.heard(position) for position in positions]
    for shorter, longer in pairwise([*heard, whole]):
        assert longer.startswith(shorter)
    for words in heard:
        # It ends where a word ends.
        assert whole.split()[: len(words.split())] == words.split()


@given(
    st.lists(st.tuples(st.text("ab ", max_size=30), st.text("xy ", max_size=60), st.booleans())), st.integers(50, 400)
)
def test_the_history_alternates_and_is_bounded(exchanges: list[tuple[str, str, bool]], limit: int) -> None:
    history = History("persona", limit)
    for heard, spoken, cut in exchanges:
        history.add(heard, spoken, cut=cut)
        roles = [message.role for message in history.messages]
        assert roles[0] is Role.SYSTEM
        assert all(earlier is not later for earlier, later in pairwise(roles))
        if heard:
            assert any(heard in message.content for message in history.messages)
        if spoken:
            assert spoken in history.messages[-1].content
    asked = history.asking("question")
    assert asked[-1].role is Role.USER
    assert asked[-1].content.endswith("question")
    if len(history.messages) > 3:
        assert sum(len(message.content) for message in history.messages[1:]) <= limit
