"""The kind of task that a conversation is about."""

from __future__ import annotations

import pytest

from aion_extproc.classify.classifier import Classifier
from aion_extproc.wire.conversation import Conversation, Turn

CLASSIFIER = Classifier.load()


def task(text: str, tools: int = 0) -> str:
    return CLASSIFIER.classify(Conversation((Turn("user", (text,)),), tools=tools)).task


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("hello", "chat"), ("what is the capital of France?", "chat"), ("write a poem about the sea", "chat")),
        *(("extract the email addresses from this text", "extraction"), ("parse this address", "extraction")),
        *(("classify this review as positive or negative", "classification"), ("is it spam?", "classification")),
        *(("summarize this article", "summarisation"), ("tl;dr please, a summary", "summarisation")),
        *(("rephrase this sentence", "rewriting"), ("proofread my letter", "rewriting")),
        *(("translate this to French", "translation"), ("traduce esto al inglés", "translation")),
        *(("prove that sqrt(2) is irrational", "reasoning"), ("compare these two offers", "reasoning")),
        *(("write a python function", "code"), ("add a null check on line 42", "code"), ("run the tests", "code")),
    ],
)
def test_tasks_by_rule(text: str, expected: str) -> None:
    assert task(text) == expected


def test_code_with_tools_is_agentic_and_small_talk_is_not() -> None:
    assert task("run the tests", tools=12) == "agentic"
    assert task("hello", tools=12) == "chat"
    called = (
        *(Turn("user", ("what is in a.txt?",)), Turn("assistant", (), tool_calls=1)),
        *(Turn("tool", (), tool_results=1), Turn("user", ("thanks",))),
    )
    assert CLASSIFIER.classify(Conversation(called)).task == "agentic"


def test_an_instruction_is_found_at_either_end_of_a_long_document() -> None:
    document = "the committee met on an ordinary day and nothing of note was said. " * 2000
    assert task("Summarize this:\n" + document) == "summarisation"
    assert task(document + "\nTranslate the above into German.") == "translation"
