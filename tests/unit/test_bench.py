"""AION's own benchmarks: what is generated, what it costs, and the command."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from aion_extproc.accounting.usage import Usage
from aion_extproc.bench import mix, session
from aion_extproc.bench.costs import AFFINITY, ALONE, ALWAYS_STRONG, Report, run_mix, run_session
from aion_extproc.bench.prompt_cache import LIFETIME, MINIMUM, PromptCaches
from aion_extproc.bench.wording import lines
from aion_extproc.catalog.build import build
from aion_extproc.catalog.catalog import Catalog
from aion_extproc.classify.classifier import Classifier
from aion_extproc.cli import app
from aion_extproc.config.schema import Settings
from aion_extproc.wire.format import Format
from aion_extproc.wire.reading import conversation, estimate_input_tokens
from aion_extproc.wire.request import Request, parse

FORMATS = pytest.mark.parametrize("format", list(Format))
KIND_OF: dict[Format, str] = {Format.ANTHROPIC: "anthropic", Format.OPENAI: "openai"}


def configured(format: Format, **more: Any) -> Settings:
    """Three models with round prices, in dollars for a million tokens."""

    def model(id: str, tier: int, price: float) -> dict[str, Any]:
        prices = {"input": price, "output": 5 * price, "cache_read": price / 10}
        if format is Format.ANTHROPIC:
            prices["cache_write"] = price * 5 / 4
        return {"id": id, "tier": tier} | {f"{kind}_price_per_1m": value for kind, value in prices.items()}

    models = [model("small", 1, 0.4), model("middle", 2, 1.2), model("large", 3, 4)]
    provider = {"kind": KIND_OF[format], "api_key": "unused", "models": models}
    return Settings.model_validate({"providers": {"somebody": provider}} | more)


@cache
def catalog(format: Format) -> Catalog:
    return build(configured(format))


@cache
def played_mix() -> Report:
    return run_mix(configured(Format.ANTHROPIC), catalog(Format.ANTHROPIC), Classifier.load(), 0)


@cache
def played_session(format: Format) -> Report:
    return run_session(configured(format), catalog(format), Classifier.load(), 0)


def of_mix(seed: int) -> bytes:
    return b"\n".join(prompt.body(Format.OPENAI) for prompt in mix.generate(seed))


def of_session(seed: int, format: Format = Format.ANTHROPIC) -> bytes:
    made = session.generate(seed)
    return b"\n".join(made.bodies(format)) + repr(made.steps).encode()


def test_a_seed_is_its_requests() -> None:
    assert of_mix(3) == of_mix(3) != of_mix(4)
    assert of_session(3) == of_session(3) != of_session(4)


def test_the_mix_has_the_counts_of_aions_benchmark() -> None:
    assert Counter(prompt.category for prompt in mix.generate(0)) == {
        "greetings": 100,
        "factual": 120,
        "simple_code": 100,
        "explanation": 100,
        "code_generation": 120,
        "debug": 100,
        "review": 80,
        "analysis": 80,
        "architecture": 100,
        "confirmations": 100,
    }


def test_every_category_has_sixty_templates_of_its_own() -> None:
    for category in mix.COUNTS:
        names = ("confirm_phrases", "confirm_contexts") if category == "confirmations" else (category,)
        for name in names:
            assert len(set(lines(name))) >= 60, name


@settings(max_examples=10)
@given(st.integers(min_value=0, max_value=2**32))
def test_the_prompts_of_a_mix_differ_and_are_whole(seed: int) -> None:
    prompts = mix.generate(seed)
    asked = [prompt.turns for prompt in prompts if prompt.category != "confirmations"]
    assert len(set(asked)) == len(asked) == 900
    for prompt in prompts:
        assert prompt.turns[-1][0] == "user"
        for _, text in prompt.turns:
            assert text.strip()
            assert not re.search(r"\{[a-z_]+\}|@[a-z]+@", text), text


def test_a_confirmation_has_its_proposal_before_it() -> None:
    confirmations = [prompt for prompt in mix.generate(0) if prompt.category == "confirmations"]
    assert {tuple(role for role, _ in prompt.turns) for prompt in confirmations} == {("user", "assistant", "user")}
    with_code = [prompt for prompt in confirmations if prompt.turns[1][1].count("```") >= 4]
    assert 20 <= len(with_code) <= 60
    assert min(prompt.answer_tokens for prompt in with_code) >= mix.ANSWERS["architecture"][0]


@FORMATS
def test_a_session_has_two_hundred_readable_steps_each_longer_than_the_last(format: Format) -> None:
    made = session.generate(0)
    bodies = list(made.bodies(format))
    assert len(bodies) == len(made.steps) == 200
    last: list[Any] = []
    for body, step in zip(bodies, made.steps, strict=True):
        request = parse(body, format)
        read = conversation(request)
        assert request.stream
        assert read.tools == 9
        assert read.turns[-1].role in ("user", "tool")
        assert step.first == (made.messages[step.length - 1].role == "user")
        messages = request.messages
        assert len(messages) > len(last)
        if not step.length % 9:
            assert _unmarked(messages)[: len(last)] == _unmarked(last), "what was said is sent again as it was"
        last = messages
    assert estimate_input_tokens(parse(bodies[-1], format)) > 40_000


def _unmarked(messages: list[dict[str, Any]]) -> list[Any]:
    return json.loads(json.dumps(messages).replace(', "cache_control": {"type": "ephemeral"}', ""))  # type: ignore[no-any-return]


@FORMATS
def test_every_tool_call_has_its_result(format: Format) -> None:
    text = list(session.generate(1).bodies(format))[-1].decode()
    called = re.findall(r'"id":"(toolu_\w+)"', text)
    answered = re.findall(r'"(?:tool_use_id|tool_call_id)":"(toolu_\w+)"', text)
    # The last step's own answer is not in its request; what it asked for has come.
    assert called == answered
    assert len(called) > 60


@settings(max_examples=20)
@given(st.integers(min_value=0, max_value=2**32))
def test_a_session_is_mostly_mechanical_with_something_of_everything(seed: int) -> None:
    made = session.generate(seed)
    kinds = Counter(step.kind for step in made.steps)
    assert sum(kinds.values()) == 200
    assert 140 <= sum(kinds[kind] for kind in session.MECHANICAL) <= 170
    assert sum(kinds[kind] for kind in session.BOUNDED) >= 22
    assert kinds["wide"] >= 7
    assert sum(step.pause > LIFETIME for step in made.steps) == 3
    assert len(made.messages) == 400, "a turn and its answer for each step"


def test_the_shares_of_tiers_sum_to_one() -> None:
    for report in (played_mix(), played_session(Format.ANTHROPIC), played_session(Format.OPENAI)):
        for run in report.runs.values():
            assert sum(run.tier_shares.values()) == pytest.approx(1)
        assert report.runs[ALWAYS_STRONG].tier_shares[3] == 1
        assert sum(sum(counts.values()) for counts in report.by_group().values()) == len(report.groups)


def test_the_same_seed_costs_the_same() -> None:
    assert run_mix(configured(Format.ANTHROPIC), catalog(Format.ANTHROPIC), Classifier.load(), 0) == played_mix()


def test_always_strong_costs_what_its_tokens_cost_by_hand() -> None:
    nano = 0
    for prompt in mix.generate(0):
        tokens = 0
        for role, text in prompt.turns:
            alone = orjson.dumps({"model": "m", "messages": [{"role": role, "content": text}]})
            tokens += estimate_input_tokens(parse(alone, Format.ANTHROPIC))
        nano += 4_000 * tokens + 20_000 * prompt.answer_tokens
    strong = played_mix().runs[ALWAYS_STRONG]
    assert strong.uncached_nano == nano
    assert strong.cost_nano == nano, "single prompts are too short to be cached"


def test_a_session_of_one_model_reads_what_the_step_before_sent() -> None:
    """With marks at the end of each request only breaks cost a cold start, so the bill can be written by hand."""
    made, strong = session.generate(0), played_session(Format.ANTHROPIC).runs[ALWAYS_STRONG]
    cached = plain = before = 0
    for step, one in zip(made.steps, strong.played, strict=True):
        read = before if step.pause < 200 else 0
        total, output = one.usage.input_tokens, one.usage.output_tokens
        plain += 4_000 * total + 20_000 * output
        cached += 400 * read + 5_000 * (total - read) + 20_000 * output
        before = total
    assert (strong.uncached_nano, strong.cost_nano) == (plain, cached)


@FORMATS
def test_tokens_from_the_cache_and_others_are_the_input(format: Format) -> None:
    *_, last = session.generate(0).bodies(format)
    for run in played_session(format).runs.values():
        for one in run.played:
            usage = one.usage
            assert 0 <= usage.cache_read_tokens <= usage.input_tokens
            assert usage.cache_read_tokens + usage.cache_write_tokens <= usage.input_tokens
        # The gateway's own estimate rounds once only, and counts the marks.
        assert run.played[-1].usage.input_tokens == pytest.approx(estimate_input_tokens(parse(last, format)), rel=0.02)
        assert run.usage.cache_read_tokens > run.usage.input_tokens / 2


def test_affinity_changes_the_model_no_more_often_and_costs_no_more() -> None:
    def held(reason: str) -> bool:
        return "kept for its prompt cache" in reason or "as before" in reason

    every = [run_session(configured(format), catalog(format), Classifier.load(), 2).runs for format in Format]
    for runs in every:
        assert 0 == runs[ALWAYS_STRONG].switches < runs[AFFINITY].switches <= runs[ALONE].switches
        assert not any(held(one.reason) for one in runs[ALONE].played)
        alone, affinity = (sum(one.cost_nano for one in runs[name].played) for name in (ALONE, AFFINITY))
        assert affinity <= 1.02 * alone
    assert any(held(one.reason) for runs in every for one in runs[AFFINITY].played)


def test_a_cache_knows_a_beginning_for_its_lifetime_and_no_other_model_does() -> None:
    small, _, large = catalog(Format.ANTHROPIC).models
    caches, first, second = PromptCaches(), marked("a" * 8_000), marked("a" * 8_000, "more " * 100)
    size = caches.served(first, large, 10, now=0).input_tokens
    assert size > MINIMUM
    again = caches.served(second, large, 10, now=LIFETIME - 1)
    assert (again.cache_read_tokens, again.cache_write_tokens) == (size, again.input_tokens - size)
    assert caches.served(second, small, 10, now=LIFETIME - 1).cache_read_tokens == 0
    late = caches.served(second, large, 10, now=3 * LIFETIME)
    assert (late.cache_read_tokens, late.cache_write_tokens) == (0, late.input_tokens)


def test_what_is_short_or_not_marked_is_not_cached() -> None:
    large = catalog(Format.ANTHROPIC).models[2]
    caches = PromptCaches()
    for request in (marked("short"), parse(body_of({"role": "user", "content": "a" * 8_000}), Format.ANTHROPIC)):
        for now in (0.0, 1.0):
            usage = caches.served(request, large, 7, now)
            assert usage == Usage(usage.input_tokens, 7)


def test_others_cache_without_marks_and_bill_no_writes() -> None:
    large = catalog(Format.OPENAI).models[2]
    caches, turn = PromptCaches(), {"role": "user", "content": "a" * 8_000}
    assert caches.served(parse(body_of(turn), Format.OPENAI), large, 1, 0).cache_read_tokens == 0
    longer = caches.served(parse(body_of(turn, {"role": "user", "content": "b"}), Format.OPENAI), large, 1, 1)
    assert longer.cache_read_tokens == 1_920  # 2,001 tokens in steps of 128
    assert longer.cache_write_tokens == 0


def test_too_far_before_a_mark_nothing_is_found() -> None:
    large = catalog(Format.ANTHROPIC).models[2]
    for more, found in ((19, True), (20, True), (21, False)):
        caches = PromptCaches()
        caches.served(marked("a" * 8_000), large, 1, 0)
        usage = caches.served(marked("a" * 8_000, *(str(number) for number in range(more))), large, 1, 1)
        assert (usage.cache_read_tokens > 0) is found, more


def marked(*texts: str) -> Request:
    """A request of one turn with the mark on its last block."""
    content: list[dict[str, Any]] = [{"type": "text", "text": text} for text in texts]
    content[-1]["cache_control"] = {"type": "ephemeral"}
    return parse(body_of({"role": "user", "content": content}), Format.ANTHROPIC)


def body_of(*messages: dict[str, Any]) -> bytes:
    return orjson.dumps({"model": "aion-auto", "max_tokens": 10, "messages": messages})


def aion(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["bench", *arguments])


@pytest.mark.parametrize(("name", "requests", "runs"), [("mix", 1000, 2), ("session", 200, 3)])
def test_the_command_with_the_default_models(
    name: str, requests: int, runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = aion(name, "--seed", "5", "--json")
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    assert (found["requests"], found["seed"], len(found["runs"])) == (requests, 5, runs)
    assert [(model["provider"], model["tier"]) for model in found["models"]] == [("anthropic", n) for n in (1, 2, 3)]
    assert all(model["usd_per_1m"]["input"][0] > 0 for model in found["models"])
    strong, routed = found["runs"][ALWAYS_STRONG], found["runs"][ALONE]
    assert strong["saved"] == strong["uncached_saved"] == 0
    assert 0 < routed["uncached_nano"] < strong["uncached_nano"]
    assert routed["uncached_saved"] == pytest.approx(1 - routed["uncached_nano"] / strong["uncached_nano"])
    table = aion(name, "--provider", "openai")
    assert table.exit_code == 0, table.output
    assert ALWAYS_STRONG in table.stdout
    assert "openai/gpt" in table.stdout


def test_the_command_with_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "aion.yaml").write_text(
        "providers:\n"
        "  mine:\n"
        "    kind: openai\n"
        "    api_key: sk-test\n"
        "    models:\n"
        "      - {id: low, tier: 1, input_price_per_1m: 1, output_price_per_1m: 1}\n"
        "      - {id: high, tier: 3, input_price_per_1m: 2, output_price_per_1m: 2}\n"
        "auth: {keys: [{key: sk-mine, name: me, budget: {daily_limit_usd: 1}}]}\n"
    )
    answer = aion("mix", "--json")
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    assert (found["format"], [model["id"] for model in found["models"]]) == ("openai", ["low", "high"])
    assert found["runs"][ALONE]["tier_shares"]["2"] == 0


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ("[{id: low, tier: 1, input_price_per_1m: 1, output_price_per_1m: 1}]", "tier 3"),
        ("[{id: nobody-knows-it, tier: 3}]", "price"),
    ],
)
def test_what_cannot_be_compared_is_said(models: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(f"providers: {{mine: {{kind: openai, api_key: sk-test, models: {models}}}}}\n")
    answer = aion("mix", "-c", str(path))
    assert answer.exit_code == 2
    assert said in answer.stderr


def test_a_provider_has_default_models_or_is_refused(tmp_path: Path) -> None:
    assert aion("mix", "--provider", "nobody").exit_code == 2
    assert aion("mix", "--provider", "openai", "-c", str(tmp_path / "aion.yaml")).exit_code == 2
