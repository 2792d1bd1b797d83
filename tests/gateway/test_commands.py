"""aion check, render and classify, as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.configs import OPENAI_KEY
from tests.support.gateway import clean_env

ROOT = Path(__file__).parents[2]
CONFIG = f"""
providers:
  openai:
    api_key: {OPENAI_KEY}
    models:
      - {{id: gpt-4o-mini, tier: 1, input_price_per_1m: 0.15, output_price_per_1m: 0.60}}
  local:
    base_url: http://127.0.0.1:8081/v1
    models: [{{id: qwen, tier: 1}}]
"""


def aion(*arguments: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aion_extproc.cli", *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=60, cwd=cwd, env=clean_env(), check=False
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "aion.yaml"
    path.write_text(CONFIG)
    return path


def test_check_accepts_a_good_config(config: Path) -> None:
    done = aion("check", "--config", str(config))
    assert done.returncode == 0, done.stderr
    assert "2 providers, 2 models" in done.stdout


def test_check_names_file_line_and_key_of_a_mistake(config: Path) -> None:
    config.write_text(CONFIG.replace("tier: 1, input", "teir: 1, input"))
    done = aion("check", "--config", str(config))
    assert done.returncode == 2
    assert f"{config}:6: providers.openai.models[0].teir" in done.stderr
    assert '"tier"' in done.stderr
    assert OPENAI_KEY not in done.stderr


def test_render_holds_no_secret_and_envoy_takes_it(config: Path, tmp_path: Path) -> None:
    from aion_extproc.gateway.envoy import EnvoyError, validate

    done = aion("render", "--config", str(config), "--run-dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert OPENAI_KEY not in done.stdout
    bootstrap = json.loads(done.stdout)
    validate(bootstrap)
    tls = next(c for c in bootstrap["static_resources"]["clusters"] if c["name"] == "provider_openai")
    context = tls["transport_socket"]["typed_config"]
    assert context["sni"] == "api.openai.com"
    assert context["common_tls_context"]["validation_context"]["trusted_ca"]["filename"]
    bootstrap["static_resources"]["clusters"][0]["connect_timeout"] = "soon"
    with pytest.raises(EnvoyError, match=r"connect_timeout|Duration|soon"):
        validate(bootstrap)


@pytest.mark.parametrize("name", ["two-providers", "local-only"])
def test_the_checked_in_examples_are_what_render_writes(name: str) -> None:
    done = aion("render", "--config", str(ROOT / "envoy" / f"{name}.aion.yaml"))
    assert done.returncode == 0, done.stderr
    rendered, kept = json.loads(done.stdout), json.loads((ROOT / "envoy" / f"{name}.bootstrap.json").read_text())
    for config in (rendered, kept):  # where the CA bundle lies is the machine's business
        _walk_ca(config)
    assert rendered == kept


def _walk_ca(value: object) -> None:
    if isinstance(value, dict):
        if "trusted_ca" in value:
            value["trusted_ca"] = "the system's"
        for inner in value.values():
            _walk_ca(inner)
    elif isinstance(value, list):
        for inner in value:
            _walk_ca(inner)


def test_classify_reads_prompts_and_bodies(tmp_path: Path) -> None:
    lines = [
        {"id": 1, "prompt": "hello"},
        {"id": "two", "prompt": "refactor this package to use asyncpg"},
        {
            "id": 3,
            "format": "anthropic",
            "body": {"max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]},
        },
        {"id": 4, "format": "openai", "body": {"messages": [{"role": "user", "content": "hello"}]}},
    ]
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(json.dumps(line) for line in lines))
    done = aion("classify", "--input", str(source), "--output", str(target))
    assert done.returncode == 0, done.stderr
    results = {result["id"]: result for result in map(json.loads, target.read_text().splitlines())}
    assert [results[key]["tier"] for key in (1, "two", 3, 4)] == [1, 3, 1, 1]
    assert results[1]["score"] == results[3]["score"] == results[4]["score"]
    assert set(results[1]) == {"id", "score", "tier", "task", "reason", "signals", "weights", "micros"}
    assert len(results[1]["signals"]) == len(results[1]["weights"]) == 7


def test_classify_scores_as_the_configuration_says(tmp_path: Path) -> None:
    (tmp_path / "aion.yaml").write_text(
        "providers: {local: {base_url: 'http://127.0.0.1:1', models: [{id: small, tier: 1}]}}\n"
        "routing: {classifier: {mode: seed}}\n"
    )
    stdin = json.dumps({"id": 1, "prompt": "hello"})
    seed = json.loads(aion("classify", "-c", str(tmp_path / "aion.yaml"), stdin=stdin).stdout)
    assert seed["score"] == pytest.approx(0.078, abs=0.001)  # AION's own figure
    weighted = [seed["signals"][name] * weight for name, weight in seed["weights"].items()]
    assert seed["score"] == pytest.approx(sum(weighted), abs=1e-6)
    assert json.loads(aion("classify", stdin=stdin).stdout)["weights"]["content_keywords"] == 0


def test_classify_reports_bad_lines_and_goes_on() -> None:
    bad = ['{"id": 2', '{"id": 3}', '{"id": 4, "format": "openai", "body": {}}']
    stdin = "\n".join(['{"id": 1, "prompt": "hello"}', *bad, '{"id": 5, "prompt": "x"}'])
    done = aion("classify", "--input", "-", "--output", "-", stdin=stdin)
    assert done.returncode == 1
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [1, 5]
    for number in (2, 3, 4):
        assert f"line {number}: " in done.stderr


def test_classify_gives_the_same_scores_every_time() -> None:
    stdin = "".join(json.dumps({"id": n, "prompt": f"explain item {n} and compare"}) + "\n" for n in range(50))

    def scores() -> list[float]:
        return [json.loads(line)["score"] for line in aion("classify", stdin=stdin).stdout.splitlines()]

    first = scores()
    assert len(first) == 50
    assert first == scores()
