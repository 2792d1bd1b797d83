"""What is around a request, and how it is dressed, does not move its tier."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.classify.classification import Thresholds
from aion_extproc.classify.classifier import Classifier
from aion_extproc.classify.training.scene_texts import AGENT_RULES
from aion_extproc.wire.conversation import Conversation, Turn

CLASSIFIER = Classifier.load()
REQUESTS = {
    "what is the capital of France?": 1,
    "run the tests": 1,
    "list the files in src": 1,
    "show me the last five commits": 1,
    "fix the typo in README.md": 1,
    "rename the local variable x to count": 1,
    "translate 'good morning' to Spanish": 1,
    "add a null check on line 42 of parser.py": 2,
    "write a unit test for the parse_date function": 2,
    "explain how garbage collection works in Go": 2,
    "debug this stack trace: KeyError: 'id' in handlers.py line 10": 2,
    "write a function that merges two sorted lists": 2,
    "refactor the whole payments package to use async IO": 3,
    "design a multi-region architecture for our event pipeline": 3,
    "migrate the monolith to microservices, one per bounded context": 3,
    "prove that the square root of 2 is irrational": 3,
}
LOG = "\n".join(
    f"2026-01-0{i % 9 + 1} 12:00:{i % 60:02d},{i:03d} {('INFO', 'DEBUG', 'WARN', 'ERROR')[i % 4]} worker-{i % 7} "
    f"job {i} of design-service refactor=none architecture=x86 in {i} ms"
    for i in range(200)
)
# AION's keywords, which the seed's score counts one by one.
KEYWORDS = [
    *("analyze", "explain", "compare", "prove", "derive", "implement", "architect", "design", "optimize", "refactor"),
    *("debug", "evaluate"),
]

DRESSED: dict[str, Callable[[str], str]] = {
    "please": lambda said: f"please {said}",
    "Please,": lambda said: f"Please, {said}",
    "please at the end": lambda said: f"{said}, please",
    "hi": lambda said: f"Hi! {said}",
    "thanks": lambda said: f"{said}\n\nThanks!",
    "could you": lambda said: f"could you {said}",
    "upper case": str.upper,
    "exclamation marks": lambda said: f"{said}!!!",
    "fence": lambda said: f"```\n{said}\n```",
    "fence with a language": lambda said: f"```text\n{said}\n```",
    "blank lines": lambda said: "\n" * 500 + said + "\n" * 500,
    "spaces": lambda said: said + " " * 20_000,
    "dots": lambda said: said + "." * 3_000,
    "twice": lambda said: f"{said}\n{said}",
    "log below": lambda said: f"{said}\n\n{LOG}",
    "log above": lambda said: f"{LOG}\n\n{said}",
    "fenced log": lambda said: f"{said}\n\n```\n{LOG}\n```",
    "reminder": lambda said: f"<system-reminder>design an architecture and prove it</system-reminder>{said}",
}
SETTINGS: dict[str, Callable[[str], Conversation]] = {
    "system prompt": lambda said: Conversation(
        (Turn("system", ("\n\n".join(AGENT_RULES) * 5,)), Turn("user", (said,)))
    ),
    "tools": lambda said: Conversation((Turn("user", (said,)),), tools=30),
    "a long session": lambda said: Conversation(
        (
            *(Turn(("user", "assistant")[i % 2], (f"refactor module {i}, then prove it",)) for i in range(100)),
            Turn("user", (said,)),
            Turn("assistant", (), tool_calls=1),
            Turn("user", (), tool_results=1, tool_result_chars=50_000),
        )
    ),
    "all of them": lambda said: Conversation(
        (
            Turn("system", ("\n\n".join(AGENT_RULES),)),
            *(Turn(("user", "assistant")[i % 2], (f"design part {i}",)) for i in range(100)),
            Turn("user", ("<system-reminder>refactor everything</system-reminder>", f"please {said}")),
        ),
        tools=30,
    ),
}
TRANSLATED = [
    (1, ["lance les tests", "führe die Tests aus", "ejecuta los tests"]),
    (1, ["テストを実行して", "运行测试", "запусти тесты"]),
    (1, ["quelle est la capitale du Pérou ?", "wie heißt die Hauptstadt von Peru?", "¿cuál es la capital de Perú?"]),
    (1, ["montre-moi le fichier config.yaml", "zeig mir die Datei config.yaml", "muéstrame el archivo config.yaml"]),
    (2, ["écris un test unitaire pour parse_date", "schreibe einen Unit-Test für parse_date"]),
    (2, ["为 parse_date 写一个单元测试", "explique comment marche le ramasse-miettes de Go"]),
    (2, ["erkläre, wie die Garbage Collection in Go funktioniert", "explica cómo funciona la recursividad"]),
    (3, ["refactorise tout le module de paiement en asynchrone", "refactore das gesamte Zahlungsmodul auf asyncio"]),
    (3, ["conçois l'architecture d'une plateforme multi-régions", "entwirf die Architektur einer globalen Plattform"]),
    (3, ["migra todo el monolito a microservicios", "мигрируй весь монолит на микросервисы"]),
    (3, ["把整个单体应用迁移到微服务"]),
]


def tier_in(conversation: Conversation) -> int:
    return Thresholds().tier(CLASSIFIER.classify(conversation).score)


def tier(said: str) -> int:
    return tier_in(Conversation((Turn("user", (said,)),)))


@pytest.mark.parametrize("said", REQUESTS)
def test_the_request_itself(said: str) -> None:
    assert tier(said) == REQUESTS[said]


@pytest.mark.parametrize("dress", DRESSED)
def test_dress_does_not_move_a_request(dress: str) -> None:
    found = {said: tier(DRESSED[dress](said)) for said in REQUESTS}
    assert found == REQUESTS


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_is_around_does_not_move_a_request(setting: str) -> None:
    found = {said: tier_in(SETTINGS[setting](said)) for said in REQUESTS}
    assert found == REQUESTS


@pytest.mark.parametrize(("right", "said"), [(right, said) for right, every in TRANSLATED for said in every])
def test_another_language_does_not_move_a_request(right: int, said: str) -> None:
    assert tier(said) == right


@pytest.mark.parametrize(
    "stub",
    [
        'from typing import List\n\ndef mean(numbers: List[float]) -> float:\n    """ The mean of the numbers. """\n',
        "// the largest of three numbers\nfunction max3(a, b, c) {\n}\n",
    ],
)
def test_code_without_a_word_asks_for_the_rest_of_it(stub: str) -> None:
    assert tier(stub) == 2


def test_short_words_in_quotation_marks_hide_nothing_between_them() -> None:
    said = 'translate "yes" and "no" to Spanish, then refactor the "cart", "order" and "user" packages to asyncio'
    assert tier(said) == 3


@given(
    st.sampled_from([said for said, right in REQUESTS.items() if right == 1]),
    st.lists(st.sampled_from(KEYWORDS), min_size=5, max_size=400),
    st.sampled_from([" ", ", ", "\n", "; ", " and "]),
    st.booleans(),
)
def test_stuffing_with_keywords_buys_no_stronger_model(said: str, words: list[str], between: str, first: bool) -> None:
    stuffing = between.join(words)
    assert tier(f"{stuffing}. {said}" if first else f"{said} {stuffing}") == 1
