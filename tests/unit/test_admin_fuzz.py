"""The admin API against its own OpenAPI document: schemathesis asks, on a real database."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from tests.support.databases import everything_in
from tests.unit.test_admin import ADMIN, admin_api, digest

ROUNDS, EXAMPLES = 3, 10  # of each operation, with good requests and with bad ones
SECRET = {"X-Admin-Secret": ADMIN}
# What good requests are about: the same few things, so that they meet.
POOLS = {
    "name": st.sampled_from(["ci", "build", "from-file"]),
    "tenant": st.sampled_from(["acme", "other", "filed"]),
    "provider": st.sampled_from(["openai", "local"]),
}
few = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
load_all_checks()
# A document cannot say that a time must lie ahead, or that one of two limits must be given.
EXCEPT = [CHECKS.get_one("positive_data_acceptance")]


def test_every_answer_is_as_documented_and_no_secret_is_told_twice(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good: dict[str, bool] = {}
    answers: list[str] = []
    numbers = count()
    with admin_api(tmp_path, admin_digest=digest(ADMIN)) as admin:

        def ask(case: Any, data: st.DataObject, mode: GenerationMode) -> None:
            named = [case.path_parameters or {}, *([case.body] if isinstance(case.body, dict) else [])]
            if mode is GenerationMode.POSITIVE:
                for place in named:
                    place |= {key: data.draw(pool) for key, pool in POOLS.items() if key in place}
            for place in named:
                if "api_key" in place and mode is GenerationMode.POSITIVE:
                    place["api_key"] = f"sk-of-a-provider-{next(numbers)}"
            answer = case.call_and_validate(headers=SECRET, excluded_checks=EXCEPT)
            assert answer.headers["cache-control"] == ["no-store"]
            operation = f"{case.operation.method} {case.operation.path}"
            good[operation] = good.get(operation, False) or answer.status_code < 300
            answers.append(answer.text)

        schema = schemathesis.openapi.from_asgi("/admin/openapi.json", admin.app, headers=SECRET)
        operations: list[Any] = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
        operations.sort(key=lambda operation: (operation.method == "delete", -len(operation.path)))  # all at the end
        for _ in range(ROUNDS):
            admin.ask("PUT", "/tenants/acme", {})
            answers.append(admin.ask("POST", "/keys", {"name": "ci"}).text)
            for operation in operations:
                for mode in GenerationMode:
                    strategy = operation.as_strategy(generation_mode=mode)
                    few(given(case=strategy, data=st.data(), mode=st.just(mode))(ask))()
        kept = everything_in(admin.deps.keys.engine)
    assert [operation for operation, well in good.items() if not well] == []
    text = "\n".join(answers)
    told = [part.split('"')[0] for part in text.split('"key":"')[1:]]
    assert len(told) > EXAMPLES
    printed = "".join(capfd.readouterr())
    for secret in told:
        assert (text.count(secret), secret in kept, secret in printed) == (1, False, False)
    for secret in (ADMIN, "sk-of-a-provider"):
        assert (secret in text, secret in kept, secret in printed) == (False, False, False)
