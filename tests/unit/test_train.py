"""`aion train`: the same data gives the same bytes, and bad data says what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

from aion_extproc.classify.model import Model
from aion_extproc.classify.questions import choice_question, features

SCRIPT = """
import sys
from pathlib import Path
from aion_extproc.classify.training import gain, text, train
from aion_extproc.evaluation.data import read_rows
rows, _ = read_rows(Path(sys.argv[1]).read_bytes().splitlines(), print)
gain.TEACHERS = 40
questions = gain.Questions(rows)
heads = {head: load()[::40] for head, load in text.HEADS.items()}
sys.stdout.buffer.write(train.dump({}, text.train(heads), gain.train(questions)[0]))
"""


def graded(groups: int, each: int = 40) -> list[dict[str, Any]]:
    """Questions of several subjects; a strong model gains on the long ones."""
    rng = Random(7)
    rows = []
    for number in range(groups * each):
        words = [rng.choice(("stone", "river", "seven", "light", "paper", "cloud")) for _ in range(rng.randint(4, 40))]
        options = "\n".join(f"{letter}. {rng.choice(words)} {rng.choice(words)}" for letter in "ABCD")
        scores = {"large": 1, "small": int(len(words) < 20)}
        prompt = f"Which of these? {' '.join(words)}\n{options}\nAnswer:"
        rows.append({"prompt": prompt, "scores": scores, "group": f"subject {number % groups}"})
    return rows


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def aion_train(data: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aion_extproc.cli", "train", "--data", str(data), "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_two_trainings_give_the_same_bytes_and_tell_a_gain(tmp_path: Path) -> None:
    data = written(tmp_path / "graded.jsonl", graded(10))
    models = []
    for seed in ("0", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", SCRIPT, str(data)]
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
        models.append(done.stdout)
    assert models[0] == models[1]
    learned = Model.from_json(models[0]).gain
    by_length = {0: 0.0, 1: 0.0}
    for row in graded(10):
        question = choice_question(row["prompt"])
        assert question is not None
        by_length[row["scores"]["small"]] += learned.gain(features(question))
    assert by_length[0] > by_length[1] + 50  # 400 questions, about half of them long


def test_too_few_subjects_are_refused(tmp_path: Path) -> None:
    done = aion_train(written(tmp_path / "graded.jsonl", graded(3)), tmp_path / "model.json")
    assert done.returncode == 2
    assert "needs questions with options of at least 10 groups" in done.stderr
    assert not (tmp_path / "model.json").exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = aion_train(tmp_path / "none.jsonl", tmp_path / "model.json")
    assert done.returncode == 2
    assert "none.jsonl: No such file" in done.stderr

