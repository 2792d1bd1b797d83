"""`aion eval` and `aion calibrate` on files and ledgers of the test's own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner, Result

from aion_extproc.accounting.row import LedgerRow
from aion_extproc.accounting.usage import Usage
from aion_extproc.classify.classification import Thresholds
from aion_extproc.classify.classifier import Classifier
from aion_extproc.cli import app
from aion_extproc.stores.ledger import Ledger
from aion_extproc.wire.conversation import Conversation, Turn

PNG = b"\x89PNG\r\n"
POOL = (
    *("hello", "thanks!", "what is the capital of Peru?", "fix the typo in README", "run the tests", "list all files"),
    *("explain how a hash map works", "write a function that merges two sorted lists", "debug this stack trace"),
    *("design a multi-region architecture for payments", "compare Redis and Kafka as queues", "who wrote Hamlet?"),
    *("refactor this package to use asyncpg and migrate the schema", "prove that the square root of 2 is irrational"),
    *("translate this into French: good morning", "write a short story about a lighthouse", "add a null check"),
    *("why does this deadlock? if it is the pool, explain how to fix it", "implement a rate limiter and test it"),
)
CONFIG = """
providers:
  somebody:
    kind: openai
    api_key: sk-test
    models:
      - {id: small, tier: 1, input_price_per_1m: 1, output_price_per_1m: 1}
      - {id: middle, tier: 2, input_price_per_1m: 4, output_price_per_1m: 4}
      - {id: large, tier: 3, input_price_per_1m: 10, output_price_per_1m: 10}
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    structlog.reset_defaults()


def run(*arguments: str, code: int = 0) -> Result:
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done


def answer(*arguments: str, code: int = 0) -> Any:
    return json.loads(run(*arguments, "--json", code=code).stdout)


@cache
def score(prompt: str) -> float:
    return Classifier.load().classify(Conversation((Turn("user", (prompt,)),))).score


@cache
def prompts() -> list[str]:
    """Ten with a score of their own each, from the lowest to the highest."""
    found = {score(prompt): prompt for prompt in POOL if 0 < score(prompt) < 1}
    assert len(found) >= 10
    return [found[value] for value in sorted(found)][:10]


def write(path: Path, costs: bool = True) -> Path:
    """The small model does the four prompts of the lowest scores, the middle one eight, the large one all ten."""
    lines = []
    for place, prompt in enumerate(prompts()):
        line: dict[str, Any] = {
            "prompt": prompt,
            "scores": {"small": int(place < 4), "middle": int(place < 8), "large": 1},
            "group": "easy" if place % 5 < 3 else "hard",
        }
        if costs:
            line["cost_usd"] = {"small": 0.001, "middle": 0.004, "large": 0.01}
        lines.append(json.dumps(line) + "\n")
    path.write_text("".join(lines))
    return path


class TestEval:
    def test_a_score_that_ranks_as_the_oracle_is_worth_as_much(self, directory: Path) -> None:
        """The six prompts that the weak model fails have the highest scores."""
        found = answer("eval", "--data", str(write(directory / "a.jsonl")), "--bootstrap", "50")
        assert (found["strong"], found["weak"], found["rows"], found["unit"]) == ("large", "small", 10, "USD")
        assert set(found["rankings"]) == {"aion", "seed", "length", "keywords", "random", "oracle"}
        ours = found["rankings"]["aion"]
        assert ours["apgr"] == pytest.approx(0.7)  # the line reaches 1 at six of ten calls: .6 / 2 + .4
        assert ours["cpt50"] == pytest.approx(0.3)
        assert ours["cpt80"] == pytest.approx(0.48)
        assert ours["saved_at_quality"]["100%"] == pytest.approx(1 - (0.6 * 0.01 + 0.4 * 0.001) / 0.01)
        assert found["rankings"]["oracle"]["apgr"] == pytest.approx(0.7)
        assert found["rankings"]["random"]["apgr"] == 0.5
        low, high = ours["apgr_by_rows"]
        assert low <= 0.7 <= high
        assert ours["apgr_by_groups"] is not None
        assert found["points"]["always_strong"]["quality"] == 1
        assert found["points"]["always_weak"]["saved"] == pytest.approx(0.9)
        assert sum(found["tier_shares"]) == pytest.approx(1)

    def test_what_people_see(self, directory: Path) -> None:
        data = write(directory / "a.jsonl")
        done = run("eval", "--data", str(data), "--by-group", "--plot", "curve.png", "--bootstrap", "20")
        assert "10 lines, strong: large, weak: small" in done.stdout
        for word in ("aion", "length", "keywords", "random", "oracle", "always weak", "tier 2 to strong", "easy"):
            assert word in done.stdout
        assert (directory / "curve.png").read_bytes().startswith(PNG)

    def test_the_same_seed_gives_the_same_figures(self, directory: Path) -> None:
        data = str(write(directory / "a.jsonl"))
        assert answer("eval", "--data", data, "--seed", "3") == answer("eval", "--data", data, "--seed", "3")

    def test_the_configured_thresholds_are_measured(self, directory: Path) -> None:
        config = directory / "other.yaml"
        config.write_text(CONFIG + "routing: {classifier: {tier1_threshold: 0, tier2_threshold: 0}}\n")
        data = str(write(directory / "a.jsonl"))
        found = answer("eval", "--data", data, "-c", str(config), "--bootstrap", "0")
        assert found["tier_shares"] == [0, 0, 1]
        assert found["points"]["tier_2_to_weak"]["quality"] == 1
        assert found["rankings"]["aion"]["apgr_by_rows"] is None

    def test_without_costs_calls_are_counted(self, directory: Path) -> None:
        done = run("eval", "--data", str(write(directory / "a.jsonl", costs=False)), "--bootstrap", "0")
        assert "no line has the costs of all models, so calls to the strong model are counted" in done.stderr
        assert "calls to strong" in done.stdout

    def test_a_strong_model_that_is_no_better_is_said_to_be_so(self, directory: Path) -> None:
        data = str(write(directory / "a.jsonl"))
        done = run("eval", "--data", data, "--strong", "small", "--weak", "large")
        assert "small is no better than large here" in done.stderr
        assert (
            answer("eval", "--data", data, "--strong", "small", "--weak", "large")["rankings"]["aion"]["apgr"] is None
        )

    def test_too_few_lines_for_an_interval_are_said_to_be_so(self, directory: Path) -> None:
        data = write(directory / "a.jsonl")
        data.write_text("\n".join(data.read_text().splitlines()[3:5]))  # one that the small model does, one it does not
        done = run("eval", "--data", str(data))
        assert "too few samples of lines have a strong model that is better, so there is no interval" in done.stderr

    def test_bad_lines_are_named_and_the_rest_is_measured(self, directory: Path) -> None:
        data = write(directory / "a.jsonl")
        data.write_text(
            data.read_text() + '{"prompt": "x", "scores": {"small": 2}}\n{"prompt": "x", "scores": {"o": 1}}\n'
        )
        done = run("eval", "--data", str(data), "--strong", "large", "--weak", "small", "--json", code=1)
        assert 'line 11: "scores" of small must be a number from 0 to 1, not 2' in done.stderr
        assert "line 12: no score of large, small" in done.stderr
        assert json.loads(done.stdout)["rows"] == 10
        assert json.loads(done.stdout)["bad_lines"] == 2

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["--data", "nowhere.jsonl"], "nowhere.jsonl: No such file or directory"),
            (["--data", "empty.jsonl"], "empty.jsonl: no good line"),
            (["--data", "a.jsonl", "--strong", "larg"], "no line has a score of larg; there are large, middle, small"),
            (["--data", "a.jsonl", "--plot", "curve.gif"], "must end with .png"),
            (["--data", "a.jsonl", "--plot", "no/curve.png"], "no/curve.png: No such file or directory"),
        ],
    )
    def test_what_cannot_be_done_is_said(self, directory: Path, arguments: list[str], complaint: str) -> None:
        write(directory / "a.jsonl")
        (directory / "empty.jsonl").touch()
        assert complaint in run("eval", *arguments, "--bootstrap", "5", code=2).stderr


class TestCalibrate:
    def test_three_models_save_most_without_any_loss(self, directory: Path) -> None:
        """Four prompts to the small model, four to the middle one, two to the large one: nothing is lost."""
        data = str(write(directory / "a.jsonl"))
        found = answer("calibrate", "--data", data, "--max-quality-loss", "0%", "--plot", "curve.png")
        assert found["models"] == ["small", "middle", "large"]
        assert found["met"]
        assert found["chosen"]["calls"] == pytest.approx([0.4, 0.4, 0.2])
        assert found["chosen"]["quality"] == 1
        assert found["chosen"]["saved"] == pytest.approx(1 - (0.4 * 0.001 + 0.4 * 0.004 + 0.2 * 0.01) / 0.01)
        assert 0 < found["tier1_threshold"] < found["tier2_threshold"] < 1
        thresholds = Thresholds(found["tier1_threshold"], found["tier2_threshold"])
        assert [thresholds.tier(score(prompt)) for prompt in prompts()] == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]
        assert (directory / "curve.png").read_bytes().startswith(PNG)

    def test_what_it_prints_can_be_pasted_and_then_measured(self, directory: Path) -> None:
        data = str(write(directory / "a.jsonl"))
        done = run("calibrate", "--data", data, "--models", "small,large", "--target-savings", "45%")
        assert "→" in done.stdout
        head, _, pasted = done.stdout.partition("\nrouting:\n")
        assert "10 lines, weak to strong: small, large (as named)" in head
        (directory / "aion.yaml").write_text(CONFIG + "routing:\n" + pasted)
        found = answer("eval", "--data", data, "--bootstrap", "0")
        assert found["tier_shares"] == pytest.approx([0.5, 0, 0.5])
        assert found["points"]["tier_2_to_strong"]["saved"] == pytest.approx(0.45)

    def test_a_target_out_of_reach_is_said_to_be_so(self, directory: Path) -> None:
        data = str(write(directory / "a.jsonl"))
        done = run("calibrate", "--data", data, "--target-savings", "95%", code=1)
        assert "savings of 95% cannot be met: no thresholds save so much, the most is 90.0%" in done.stderr
        assert "tier1_threshold" not in done.stdout
        assert not answer("calibrate", "--data", data, "--target-savings", "95%", code=1)["met"]

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["--target-savings", "60%"], "give --data or --ledger"),
            (["--data", "a.jsonl", "--ledger", "b", "--target-savings", "60%"], "give --data or --ledger"),
            (["--data", "a.jsonl"], "give --target-savings or --max-quality-loss"),
            (["--data", "a.jsonl", "--target-savings", "0.6"], 'must be a percentage from 0% to 100%, such as "60%"'),
            (["--data", "a.jsonl", "--target-savings", "101%"], "must be a percentage"),
            (["--data", "a.jsonl", "--target-savings", "6%", "--models", "a"], "must be two or three models"),
            (["--data", "a.jsonl", "--target-savings", "6%", "--models", "large,o"], "no line has a score of o"),
            (["--ledger", "aion.db", "--max-quality-loss", "1%"], "it has no table of feedback"),
            (["--ledger", "aion.db", "--target-savings", "1%"], "name it with -c aion.yaml"),
        ],
    )
    def test_what_cannot_be_done_is_said(self, directory: Path, arguments: list[str], complaint: str) -> None:
        write(directory / "a.jsonl")
        assert complaint in " ".join(run("calibrate", *arguments, code=2).stderr.replace("│", " ").split())


@pytest.mark.parametrize("command", ["eval", "calibrate"])
@pytest.mark.parametrize(("missing", "arguments"), [("numpy", []), ("matplotlib", ["--plot", "curve.png"])])
def test_what_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, command: str, missing: str, arguments: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)  # as if it were not installed
    done = run(command, "--data", "a.jsonl", *arguments, code=2)
    assert f"aion {command} needs {missing}: pip install 'aion-extproc[train]'" in done.stderr


def test_other_commands_need_neither() -> None:
    code = "import sys; sys.modules['numpy'] = sys.modules['matplotlib'] = None; import aion_extproc.cli"
    subprocess.run([sys.executable, "-c", code], check=True)


class TestCalibrateFromTheLedger:
    @pytest.fixture
    def database(self, directory: Path) -> str:
        """A hundred requests of a thousand tokens, with scores from 0 to .99."""
        (directory / "aion.yaml").write_text(CONFIG)
        ledger = Ledger(directory / "aion.db")
        rows = [
            LedgerRow(str(index), 1_700_000_000_000 + index, "served", 200, score=index / 100, usage=Usage(900, 100))
            for index in range(100)
        ]
        ledger.add([*rows, LedgerRow("named", 1_700_000_000_000, "served", 200, usage=Usage(900, 100))])
        ledger.close()
        return str(directory / "aion.db")

    def test_thresholds_are_moved_until_they_save_enough(self, directory: Path, database: str) -> None:
        """At .35 and .70: 35 requests at 1, 36 at 4, 29 at 10 save 53.1 %."""
        arguments = ("calibrate", "--ledger", database, "--since", "2020-01-01", "--target-savings")
        found = answer(*arguments, "53.1%", "--plot", "curve.png")
        assert found["met"]
        assert found["requests"] == 100
        assert (found["tier1_threshold"], found["tier2_threshold"]) == (0.35, 0.7)
        assert found["chosen"]["saved"] == pytest.approx(0.531)
        assert found["chosen"]["tier_shares"] == pytest.approx([0.35, 0.36, 0.29])
        assert found["chosen"]["cost_usd"] == pytest.approx((35 * 1 + 36 * 4 + 29 * 10) * 1000 / 1e6)
        assert found["models"] == [["somebody/small"], ["somebody/middle"], ["somebody/large"]]
        assert (directory / "curve.png").read_bytes().startswith(PNG)
        more = answer(*arguments, "75%")
        assert more["tier1_threshold"] > 0.35
        assert more["chosen"]["saved"] >= 0.75

    def test_what_people_see(self, database: str) -> None:
        done = run("calibrate", "--ledger", database, "--since", "2020-01-01", "--target-savings", "60%")
        assert "100 classified requests since 2020-01-01" in done.stdout
        assert "→" in done.stdout
        assert "tier1_threshold: 0." in done.stdout
        assert "does not say how good the answers were" in done.stderr

    def test_models_can_be_named(self, database: str) -> None:
        found = answer(
            *("calibrate", "--ledger", database, "--since", "2020-01-01", "--target-savings", "20%"),
            *("--models", "middle,somebody/large"),
        )
        assert found["models"] == [["somebody/middle"], [], ["somebody/large"]]
        assert found["chosen"]["saved"] == pytest.approx(0.204)  # 34 requests at 4 in place of 10

    @pytest.mark.parametrize(
        ("arguments", "code", "complaint"),
        [
            (["--target-savings", "91%"], 1, "no thresholds save so much, the most is 90.0%"),
            (["--target-savings", "60%", "--since", "1h"], 2, "no classified and answered request since 1h"),
            (["--target-savings", "60%", "--since", "soon"], 2, 'must be "30d"'),
            (
                ["--target-savings", "60%", "--models", "small,o1"],
                2,
                "no enabled model is called o1; there are somebody/",
            ),
        ],
    )
    def test_what_cannot_be_done_is_said(self, database: str, arguments: list[str], code: int, complaint: str) -> None:
        since = [] if "--since" in arguments else ["--since", "2020-01-01"]
        assert complaint in run("calibrate", "--ledger", database, *since, *arguments, code=code).stderr

    def test_a_ledger_that_is_not_there_is_not_made(self, directory: Path) -> None:
        (directory / "aion.yaml").write_text(CONFIG)
        done = run("calibrate", "--ledger", "nowhere.db", "--target-savings", "60%", code=2)
        assert "there is no ledger at nowhere.db" in done.stderr
        assert not (directory / "nowhere.db").exists()
