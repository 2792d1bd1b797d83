"""What part of a text is read: reminders, excerpts, and that adversarial text costs no more than its length."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.classify import features
from aion_extproc.classify.classifier import Classifier
from aion_extproc.classify.features import REMINDER_CLOSE, REMINDER_OPEN, excerpt, strip_reminders
from aion_extproc.classify.terms import START, fold, terms
from aion_extproc.wire.conversation import Conversation, Turn

PIECES = st.lists(
    st.sampled_from([REMINDER_OPEN, REMINDER_CLOSE, "a", "do it", " ", "\n", "<system-", "reminder>", "</", "é\0"]),
    max_size=30,
).map("".join)


@given(PIECES)
def test_reminders_are_cut_as_a_regular_expression_would(text: str) -> None:
    plain = re.sub(f"{REMINDER_OPEN}.*?(?:{REMINDER_CLOSE}|$(?![\n]))", " ", text, flags=re.DOTALL)
    assert strip_reminders(text).split() == plain.split()


@given(PIECES, PIECES)
def test_long_texts_show_the_same_ends_as_short_ones(head: str, tail: str) -> None:
    """Blocks touching an end are found however long the middle is, if they are closed or open near the head."""
    filler = "word " * 8000
    whole = head + filler + tail
    stripped, seen = strip_reminders(whole), features.visible(whole)
    assert len(seen) <= 2 * features.EDGE + 100
    # So few that none of them is cut by where the slice ends: white space may differ.
    assert seen[:400].split()[:10] == stripped[:400].split()[:10]
    assert seen[-400:].split()[-10:] == stripped[-400:].split()[-10:]


@pytest.mark.parametrize("size", [100, 20_000, 1_000_000])
def test_a_request_beside_a_reminder_of_any_size_is_found(size: int) -> None:
    reminder = REMINDER_OPEN + "x " * (size // 2) + REMINDER_CLOSE
    for text in (reminder + "do it", "do it" + reminder, reminder + "do it" + reminder):
        assert features.visible(text).split() == ["do", "it"]
    assert features.visible("do it" + REMINDER_OPEN + "x " * (size // 2)).split() == ["do", "it"]


def test_the_last_user_turn_is_the_last_one_with_words() -> None:
    turns = (
        Turn("user", ("first",)),
        Turn("user", (" ", f"{REMINDER_OPEN}x{REMINDER_CLOSE}", "second")),
        Turn("tool", ("result",), tool_results=1),
        Turn("user", (), tool_results=1),
        Turn("user", (REMINDER_OPEN,)),
        Turn("assistant", ("third",)),
    )
    index, text = features.last_user_turn(turns)
    assert (index, text.strip()) == (1, "second")
    assert features.last_user_turn(()) == (-1, "")


def test_a_turn_of_thousands_of_parts_is_read_at_its_ends() -> None:
    parts = ("first", *("x" for _ in range(10_000)), "last")
    shown = features.turn_text(parts).split("\n")
    assert (shown[0], shown[-1], len(shown)) == ("first", "last", 2 * features.MAX_PARTS)


@given(st.text(), st.integers(0, 20), st.integers(1, 20))
def test_an_excerpt_is_the_text_or_its_ends(text: str, head: int, tail: int) -> None:
    cut = excerpt(text, head, tail)
    if len(text) <= head + tail:
        assert cut == text
    else:
        assert cut == text[:head] + "\n" + text[-tail:]


def test_terms_are_stems_digits_code_and_single_cjk_characters() -> None:
    assert terms("Refactoring refactored x1") == [START, "refact", "refact", "x"]
    assert terms("line 42: ${name}?why") == [START, "line", "0", "$", "{", "name", "}", "?", "why"]
    assert terms("snake_case ```py 测试 привет") == [
        *(START, "snake", "case", "```", "py", "测", "试", "привет"),
    ]
    assert terms("") == [START]


@given(st.text(st.characters(exclude_categories=())))
def test_folding_keeps_the_number_of_terms_bounded(text: str) -> None:
    assert len(terms(text)) <= len(fold(text))


MEGABYTE = 1_000_000
ADVERSARIAL = {
    "reminder tags": REMINDER_OPEN * (MEGABYTE // 17),
    "closing tags": REMINDER_CLOSE * (MEGABYTE // 18),
    "reminder blocks": (REMINDER_OPEN + REMINDER_CLOSE) * (MEGABYTE // 35),
    "almost tags": "<system-reminder" * (MEGABYTE // 16),
    "angle brackets": "<" * MEGABYTE,
    "backticks": "`" * MEGABYTE,
    "one word": "a" * MEGABYTE,
    "one letter words": "a b c d " * (MEGABYTE // 8),
    "spaces": " " * MEGABYTE,
    "line breaks": "\n" * MEGABYTE,
    "cjk": "测试" * (MEGABYTE // 2),
    "numbers": "1. " * (MEGABYTE // 3),
    "surrogates": "\ud800" * MEGABYTE,
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_megabytes_take_no_longer_than_their_length(name: str) -> None:
    """A bound far above what is measured (benchmarks/classifier.py), far below anything quadratic."""
    classifier = Classifier.load()
    text = ADVERSARIAL[name]
    for turns in (
        (Turn("user", (text,)),),
        (Turn("assistant", (text,)), Turn("user", ("yes",))),
        (Turn("user", (text[:1000],) * 1000),),
        tuple(Turn("user", (text[:1000],)) for _ in range(1000)),
    ):
        started = time.process_time()
        classifier.classify(Conversation(turns, system=(text,)))
        assert time.process_time() - started < 0.5
