"""Lines of graded answers: what is read, what is refused and with which words, and which models are taken."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.evaluation.data import (
    DataError,
    Row,
    choose_pair,
    choose_three,
    outcomes,
    read_rows,
    without_score,
)


def rows_of(*entries: dict[str, Any]) -> list[Row]:
    complaints: list[str] = []
    rows, bad = read_rows([json.dumps({"prompt": "hello", **entry}).encode() for entry in entries], complaints.append)
    assert (bad, complaints) == (0, [])
    return rows


def test_prompts_and_bodies_are_read() -> None:
    body = {"max_tokens": 5, "messages": [{"role": "user", "content": "fix the typo"}]}
    lines = [
        b'{"prompt": "hello", "scores": {"a": 0, "b": 1}, "cost_usd": {"a": 0.5}, "group": "talk", "extra": [1]}\n',
        b"\n",
        json.dumps({"format": "anthropic", "body": body, "scores": {"a": 0.25}}).encode(),
        json.dumps({"format": "openai", "body": {"messages": body["messages"]}, "scores": {"a": 1}, "id": 7}).encode(),
    ]
    rows, bad = read_rows(lines, pytest.fail)
    assert bad == 0
    assert [row.line for row in rows] == [1, 3, 4]
    assert [row.conversation.turns[0].texts for row in rows] == [("hello",), ("fix the typo",), ("fix the typo",)]
    assert rows[0].scores == {"a": 0, "b": 1}
    assert rows[0].cost_usd == {"a": 0.5}
    assert [row.group for row in rows] == ["talk", None, None]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 2: not JSON: "),
        ('{"prompt": "a", "scores": {"a": NaN}}', "line 2: not JSON: "),
        ("[]", "line 2: must be an object"),
        ('{"prompt": "a"}', 'line 2: needs "scores", an object with a number from 0 to 1 for each model'),
        ('{"prompt": "a", "scores": {}}', 'line 2: needs "scores", an object with a number from 0 to 1 for each model'),
        (
            '{"prompt": "a", "scores": [1]}',
            'line 2: "scores" must be an object with a number from 0 to 1 for each model',
        ),
        ('{"prompt": "a", "scores": {"gpt": 7}}', 'line 2: "scores" of gpt must be a number from 0 to 1, not 7'),
        ('{"prompt": "a", "scores": {"gpt": true}}', 'line 2: "scores" of gpt must be a number from 0 to 1, not true'),
        ('{"prompt": "a", "scores": {"a": null}}', 'line 2: "scores" of a must be a number from 0 to 1, not null'),
        (
            '{"prompt": "a", "scores": {"a": 1}, "cost_usd": {"a": -0.1}}',
            'line 2: "cost_usd" of a must be dollars, 0 or more, not -0.1',
        ),
        ('{"prompt": 5, "scores": {"a": 1}}', 'line 2: "prompt" must be a string'),
        ('{"scores": {"a": 1}}', 'line 2: needs a "prompt", or a "format" ("openai" or "anthropic") and a "body"'),
        ('{"format": "openai", "scores": {"a": 1}}', 'line 2: "body" must be an object'),
        ('{"prompt": "a", "group": 3, "scores": {"a": 1}}', 'line 2: "group" must be a string'),
        ('{"format": "openai", "body": {"messages": 1}, "scores": {"a": 1}}', "line 2: "),
    ],
)
def test_a_bad_line_is_reported_with_its_number_and_passed_over(line: str, complaint: str) -> None:
    complaints: list[str] = []
    good = b'{"prompt": "a", "scores": {"a": 1}}'
    rows, bad = read_rows([good, line.encode(), good], complaints.append)
    assert bad == 1
    assert [row.line for row in rows] == [1, 3]
    assert len(complaints) == 1
    assert complaints[0].startswith(complaint)


@given(st.lists(st.one_of(st.binary(), st.text().map(str.encode), st.just(b'{"prompt": "a", "scores": {"a": 1}}'))))
def test_whatever_is_in_a_file_every_line_is_read_reported_or_blank(lines: list[bytes]) -> None:
    complaints: list[str] = []
    rows, bad = read_rows(lines, complaints.append)
    assert len(rows) + bad == sum(bool(line.strip()) for line in lines)
    assert len(complaints) == bad


class TestModels:
    PRICED = rows_of(
        {"scores": {"best": 1, "cheap": 0.5, "bad": 0}, "cost_usd": {"best": 9, "cheap": 1, "bad": 2}},
        {"scores": {"best": 1, "cheap": 0, "bad": 0, "sometimes": 1}, "cost_usd": {"best": 9, "cheap": 1, "bad": 2}},
    )

    def test_the_best_is_strong_and_the_cheapest_weak(self) -> None:
        strong, weak, how = choose_pair(self.PRICED)
        assert (strong, weak) == ("best", "cheap")
        assert how == "best has the best mean score, cheap is the cheapest of the others"

    def test_without_all_costs_the_worst_is_weak(self) -> None:
        rows = [*self.PRICED, *rows_of({"scores": {"best": 1, "cheap": 1, "bad": 0}, "cost_usd": {"best": 9}})]
        strong, weak, how = choose_pair(rows)
        assert (strong, weak) == ("best", "bad")
        assert how == "best has the best mean score, bad has the worst"
        results = outcomes(rows, (weak, strong), how)
        assert results.unit == "calls"
        assert results.notes[0].startswith("1 of 3 lines (the first is line 1) lack a cost")

    def test_models_can_be_named(self) -> None:
        assert choose_pair(self.PRICED, strong="bad")[:2] == ("bad", "cheap")
        assert choose_pair(self.PRICED, weak="best")[:2] == ("cheap", "best")
        assert choose_pair(self.PRICED, "bad", "best") == ("bad", "best", "as named")
        with pytest.raises(DataError, match="bad cannot be both"):
            choose_pair(self.PRICED, "bad", "bad")

    def test_a_model_without_a_score_in_every_line_is_not_taken(self) -> None:
        assert "sometimes" not in choose_pair(self.PRICED)
        assert without_score(self.PRICED, ["sometimes", "best"]) == ["line 1: no score of sometimes"]
        lonely = rows_of({"scores": {"a": 1}}, {"scores": {"a": 0, "b": 1}})
        with pytest.raises(DataError, match="needs two models with a score in every line"):
            choose_pair(lonely)

    def test_a_middle_model_is_between_the_others_in_cost(self) -> None:
        models, how = choose_three(self.PRICED)
        assert models == ("cheap", "bad", "best")
        assert how.endswith("bad is the best of those between them in cost")
        results = outcomes(self.PRICED, models, how)
        assert results.unit == "USD"
        assert results.cost.tolist() == [[1, 1], [2, 2], [9, 9]]
        assert results.quality.tolist() == [[0.5, 0], [0, 0], [1, 1]]

    def test_without_costs_there_is_no_middle_model(self) -> None:
        rows = rows_of({"scores": {"a": 0, "b": 0.5, "c": 1}})
        assert choose_three(rows)[0] == ("a", "c")
        with pytest.raises(DataError, match="three models need costs"):
            outcomes(rows, ("a", "b", "c"), "as named")

    def test_a_strong_model_that_costs_no_more_is_counted_in_calls(self) -> None:
        rows = rows_of({"scores": {"a": 0, "b": 1}, "cost_usd": {"a": 2, "b": 1}})
        results = outcomes(rows, ("a", "b"), "as named")
        assert results.unit == "calls"
        assert results.notes == ("b costs no more than a, so calls to b are counted and not dollars",)
