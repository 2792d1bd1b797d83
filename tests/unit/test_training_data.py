"""The labelled turns, tasks and paraphrases that the classifier is trained on, and the requests made of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.classify import training
from aion_extproc.classify.confirmations import proposal_before
from aion_extproc.classify.features import last_user_turn
from aion_extproc.classify.tasks import TASKS
from aion_extproc.classify.training import examples
from aion_extproc.classify.training.scenes import KINDS, SCENES, Turn, body, load
from aion_extproc.wire.conversation import Conversation
from aion_extproc.wire.format import Format
from aion_extproc.wire.reading import conversation
from aion_extproc.wire.request import parse

FOLDER = Path(next(iter(training.__path__)))
TURNS = load(FOLDER / "turns.jsonl")
LANGUAGES = {"en", "es", "fr", "de", "pt", "it", "zh", "ja", "ko", "ru", "ar", "nl", "pl", "tr", "sv", "uk"}
LINE: Mapping[str, object] = {
    "id": "turn-001", "kind": "git", "tier": 1, "task": "agentic", "lang": "en", "scene": "codex", "said": "push it",
}  # fmt: skip
seeds = st.integers(0, 2**32)


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text("utf-8").splitlines()]


TASK_ROWS = rows("tasks.jsonl")
PAIRS = rows("paraphrases.jsonl")
PROMPTS = {row["prompt"].strip().lower() for row in rows("prompts.jsonl")}


def unique(values: Iterable[object]) -> bool:
    return max(Counter(values).values()) == 1


def read(turn: Turn, seed: int) -> Conversation:
    format, sent = body(turn, seed)
    return conversation(parse(json.dumps(sent).encode(), format))


def test_there_are_enough_turns_of_every_kind_and_scene() -> None:
    assert len(TURNS) >= 420
    kinds, scenes = Counter(turn.kind for turn in TURNS), Counter(turn.scene for turn in TURNS)
    assert all(kinds[kind] >= 10 for kind in KINDS)
    assert all(scenes[scene] >= 30 for scene in SCENES)


def test_every_turn_is_there_once_and_is_not_a_known_prompt() -> None:
    assert unique(turn.id for turn in TURNS)
    # A confirmation is told from another by what it says yes to; its words alone are everybody's.
    assert unique((turn.said.strip().lower(), turn.proposal) for turn in TURNS)
    others = [turn.said.strip().lower() for turn in TURNS if turn.kind != "confirmation"]
    assert unique(others)
    assert PROMPTS.isdisjoint(others)


def test_no_turn_of_any_writer_is_another_ones() -> None:
    everything = [turn for name in (*examples.TURNS, "unseen/turns.jsonl") for turn in load(FOLDER / name)]
    assert unique(turn.id for turn in everything)
    words = [turn.said.strip().lower() for turn in everything if not turn.proposal and turn.kind != "confirmation"]
    assert unique(words)
    assert {turn.lang for turn in everything} <= LANGUAGES


def test_the_tiers_and_languages_have_their_shares() -> None:
    tiers = Counter(turn.tier for turn in TURNS)
    assert tiers[1] / len(TURNS) == pytest.approx(0.45, abs=0.03)
    assert tiers[2] / len(TURNS) == pytest.approx(0.33, abs=0.03)
    assert tiers[3] / len(TURNS) == pytest.approx(0.22, abs=0.03)
    assert {turn.lang for turn in TURNS} <= LANGUAGES
    assert sum(turn.lang != "en" for turn in TURNS) >= 0.18 * len(TURNS)


def test_confirmations_of_all_tiers_answer_a_proposal() -> None:
    confirmations = [turn for turn in TURNS if turn.kind == "confirmation"]
    assert len(confirmations) >= 50
    assert all(turn.proposal for turn in confirmations)
    tiers = Counter(turn.tier for turn in confirmations)
    assert min(tiers[tier] for tier in (1, 2, 3)) >= 15


def test_small_talk_needs_no_agent_and_work_on_files_does() -> None:
    with_tools = [turn for turn in TURNS if turn.scene not in ("bare", "chat")]
    assert all(turn.task != "agentic" for turn in TURNS if turn.scene in ("bare", "chat"))
    assert all(turn.task != "agentic" for turn in with_tools if turn.kind in ("small_talk", "knowledge"))
    assert all(
        turn.task == "agentic" for turn in with_tools if turn.kind in ("file_read", "test_run", "git", "feature")
    )


@pytest.mark.parametrize("scene", SCENES)
def test_the_words_of_each_turn_are_read_from_its_request(scene: str) -> None:
    for turn in [turn for turn in TURNS if turn.scene == scene]:
        for seed in range(3):
            seen = read(turn, seed)
            index, said = last_user_turn(seen.turns)
            assert said == turn.said
            assert not turn.proposal or proposal_before(seen.turns, index) == turn.proposal


@given(st.sampled_from(TURNS), seeds)
def test_a_seed_gives_one_body(turn: Turn, seed: int) -> None:
    assert body(turn, seed) == body(turn, seed)


@given(st.sampled_from(TURNS), seeds)
def test_a_scene_looks_like_its_client(turn: Turn, seed: int) -> None:
    format, sent = body(turn, seed)
    seen = read(turn, seed)
    calls = sum(message.tool_calls for message in seen.turns)
    assert calls == sum(message.tool_results for message in seen.turns)
    if turn.scene in ("bare", "chat"):
        assert (format, seen.tools, calls) == (Format.OPENAI, 0, 0)
    else:
        assert seen.tools >= 5
        assert sum(map(len, seen.system)) > 1000
    if turn.scene == "claude_code":
        assert format is Format.ANTHROPIC
        assert 12 <= seen.tools <= 16
        assert len(sent["system"]) >= 2
        assert sum(map(len, seen.system)) > 3000
        assert "<system-reminder>" in json.dumps(sent["messages"])
    if turn.scene == "long_session":
        assert 40 <= len(seen.turns) - 1 <= 130


@given(st.sampled_from([turn for turn in TURNS if turn.scene in ("claude_code", "long_session")]), seeds)
def test_anthropic_turns_alternate(turn: Turn, seed: int) -> None:
    """As that API demands; a `system` message may stand between them."""
    format, sent = body(turn, seed)
    if format is Format.ANTHROPIC:
        roles = [message["role"] for message in sent["messages"] if message["role"] != "system"]
        assert roles[0] == roles[-1] == "user"
        assert all(first != second for first, second in pairwise(roles))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"kind": "poem"}, "kind 'poem'"),
        ({"tier": 4}, "tier 4"),
        ({"tier": True}, "tier True"),
        ({"task": "cooking"}, "task 'cooking'"),
        ({"scene": "browser"}, "scene 'browser'"),
        ({"said": " \n"}, "nothing said"),
        ({"mood": "good"}, "mood"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, wrong: dict[str, object], named: str) -> None:
    path = tmp_path / "turns.jsonl"
    path.write_text(json.dumps(LINE) + "\n" + json.dumps({**LINE, **wrong}) + "\n")
    with pytest.raises(ValueError, match=r"turns\.jsonl, line 2: ") as caught:
        load(path)
    assert named in str(caught.value)


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "turns.jsonl"
    path.write_text("{\n")
    with pytest.raises(ValueError, match=r"turns\.jsonl, line 1: "):
        load(path)


def test_the_tasks_have_fifty_prompts_each() -> None:
    counts = Counter(row["task"] for row in TASK_ROWS)
    assert set(counts) == set(TASKS)
    assert min(counts.values()) >= 50
    assert unique(row["id"] for row in TASK_ROWS)
    texts = [row["prompt"].strip().lower() for row in TASK_ROWS]
    assert unique(texts)
    assert PROMPTS.isdisjoint(texts)
    assert {turn.said.strip().lower() for turn in TURNS}.isdisjoint(texts)
    assert {row["lang"] for row in TASK_ROWS} <= LANGUAGES
    assert sum(row["lang"] != "en" for row in TASK_ROWS) >= 0.15 * len(TASK_ROWS)


def test_only_agentic_tasks_name_a_scene() -> None:
    for row in TASK_ROWS:
        assert set(row) == {"id", "task", "lang", "prompt"} | ({"scene"} if row["task"] == "agentic" else set())
        assert row.get("scene", "codex") in ("claude_code", "codex", "cursor", "long_session")


def test_paraphrases_are_other_words_for_every_tier() -> None:
    assert len(PAIRS) >= 150
    assert all(set(row) == {"id", "a", "b", "tier"} for row in PAIRS)
    assert unique(row["id"] for row in PAIRS)
    texts = [text.strip().lower() for row in PAIRS for text in (row["a"], row["b"])]
    assert unique(texts)
    assert PROMPTS.isdisjoint(texts)
    assert {turn.said.strip().lower() for turn in TURNS}.isdisjoint(texts)
    tiers = Counter(row["tier"] for row in PAIRS)
    assert set(tiers) == {1, 2, 3}
    assert min(tiers.values()) >= 30
