"""How long a classification takes, by what is in the conversation. Prints a table; `--json PATH` writes the figures.

    python -m benchmarks.classifier [--seconds 0.5] [--json out.json]

Times `Classifier.classify` alone, in microseconds, with the garbage collector on. To reach: p50 ≤ 150 and p99 ≤ 1000
over prompts from 5 characters to 1 MB (row "all prompts": every size counts the same). On a machine that others use
the wall clock also shows the scheduler; `cpu` columns are the thread's own processor time.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

from aion_extproc.classify.classifier import Classifier
from aion_extproc.wire.conversation import Conversation, Turn

SIZES = (5, 20, 100, 500, 1_000, 2_000, 4_000, 16_000, 64_000, 256_000, 1_000_000)
MEGABYTE = 1_000_000
REMINDER = "<system-reminder>{}</system-reminder>"


@dataclass(frozen=True, slots=True)
class Row:
    """Microseconds of one kind of conversation."""

    name: str
    calls: int
    p50: float
    p99: float
    max: float
    cpu_p50: float
    cpu_p99: float


@dataclass(frozen=True, slots=True)
class Times:
    """Nanoseconds of each call."""

    wall: list[int]
    cpu: list[int]


def words() -> list[str]:
    """The words of the training prompts: text in which many terms are known is the slow kind."""
    lines = files("aion_extproc.classify.training").joinpath("prompts.jsonl").read_text("utf-8").splitlines()
    return " ".join(json.loads(line)["prompt"] for line in lines).split()


def prose(size: int, vocabulary: Sequence[str], rng: random.Random) -> str:
    text = " ".join(rng.choices(vocabulary, k=size // 3 + 1))
    return text[:size]


def conversations(rng: random.Random) -> dict[str, list[Conversation]]:
    """By name, several conversations of one kind."""
    vocabulary = words()

    def said(*texts: str) -> Conversation:
        return Conversation((Turn("user", texts),))

    def agent(turns: int) -> Conversation:
        return Conversation(
            turns=(
                Turn("user", (REMINDER.format(prose(20_000, vocabulary, rng)), "refactor this package to use X")),
                *(
                    Turn("assistant", (prose(200, vocabulary, rng),), tool_calls=1)
                    if i % 2
                    else Turn("user", (), tool_results=1, tool_result_chars=5_000)
                    for i in range(turns - 1)
                ),
            ),
            system=(prose(60, vocabulary, rng), prose(60_000, vocabulary, rng)),
            tools=30,
        )

    plan = "1. Move it.\n```\nx\n```\n2. Test it.\n```\ny\n```\n" + prose(20_000, vocabulary, rng)
    kinds = {f"{size:,} characters": [said(prose(size, vocabulary, rng)) for _ in range(8)] for size in SIZES}
    kinds["20 turns, 30 tools"] = [agent(20)]
    kinds["200 turns, 30 tools"] = [agent(200)]
    kinds["confirmation of a plan"] = [Conversation((Turn("assistant", (plan,)), Turn("user", ("do it",))))]
    kinds["64 reminder parts"] = [said(*[REMINDER.format(prose(2_000, vocabulary, rng))] * 64, "do it")]
    adversarial = {
        "reminder tags": "<system-reminder>",
        "closing tags": "</system-reminder>",
        "reminder blocks": REMINDER.format(""),
        "angle brackets": "<",
        "backticks": "`",
        "one word": "a",
        "one-letter words": "a b c d ",
        "spaces": " ",
        "numbers": "1. ",
        "CJK": "测试",
        "known words": "why refactor {x} if $5? ",
    }
    for name, unit in adversarial.items():
        kinds[f"1 MB of {name}"] = [said((unit * (MEGABYTE // len(unit) + 1))[:MEGABYTE])]
    return kinds


def measure(classifier: Classifier, kind: Sequence[Conversation], seconds: float) -> Times:
    times = Times([], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times.wall) < 20:
        for conversation in kind:
            cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
            classifier.classify(conversation)
            times.wall.append(time.perf_counter_ns() - wall)
            times.cpu.append(time.thread_time_ns() - cpu)
    return times


def row(name: str, times: Times) -> Row:
    def at(values: list[int], share: float) -> float:
        return round(sorted(values)[min(len(values) - 1, int(len(values) * share))] / 1000, 1)

    wall, cpu = times.wall, times.cpu
    return Row(name, len(wall), at(wall, 0.5), at(wall, 0.99), at(wall, 1.0), at(cpu, 0.5), at(cpu, 0.99))


def pooled(parts: Sequence[Times]) -> Times:
    """As many calls of each part, so that the fast sizes do not outvote the slow ones."""
    count = min(len(part.wall) for part in parts)
    return Times([t for part in parts for t in part.wall[:count]], [t for part in parts for t in part.cpu[:count]])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="for each row")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    classifier = Classifier.load()
    load_ms = (time.perf_counter() - started) * 1000
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    rows: list[Row] = []
    prompts: list[Times] = []
    print(f"{'microseconds':<28}{'calls':>8}{'p50':>9}{'p99':>9}{'max':>9}{'cpu p50':>9}{'cpu p99':>9}")
    for name, kind in conversations(random.Random(1)).items():
        times = measure(classifier, kind, arguments.seconds)
        rows.append(row(name, times))
        show(rows[-1])
        if name.endswith("characters"):
            prompts.append(times)
            if len(prompts) == len(SIZES):
                rows.append(row("all prompts", pooled(prompts)))
                show(rows[-1])
    print(f"\nClassifier.load: {load_ms:.1f} ms, peak RSS + {grown / 1024:.1f} MB")
    if arguments.json:
        figures = {
            "python": sys.version.split()[0],
            "unit": "µs",
            "load_ms": round(load_ms, 1),
            "rss_mb": round(grown / 1024, 1),
            "rows": [asdict(r) for r in rows],
        }
        arguments.json.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", "utf-8")


def show(line: Row) -> None:
    print(
        f"{line.name:<28}{line.calls:>8}{line.p50:>9.1f}{line.p99:>9.1f}{line.max:>9.1f}"
        f"{line.cpu_p50:>9.1f}{line.cpu_p99:>9.1f}"
    )


if __name__ == "__main__":
    main()
