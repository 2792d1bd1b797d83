"""A changed configuration is taken up whole while requests come and go, or not at all."""

from __future__ import annotations

import copy
import json
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.answers import CHAT, CHAT_EVENTS, CHAT_USAGE, DONE, as_asked
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running, wait_for
from tests.support.steady import steady
from tests.support.upstream import Answer, Received, Upstream

IDLE_SECONDS = 20  # longer than a reload takes, during which nothing moves on some requests
USER = [{"role": "user", "content": "hello"}]


class Slow:
    """Answers nothing at all, not even headers, before the gate opens."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def __call__(self, request: Received) -> Answer:
        assert self.gate.wait(60)
        return as_asked(request)


@pytest.fixture(scope="module")
def providers() -> Iterator[tuple[Upstream, Upstream, Upstream]]:
    """The first, the one that comes in its place, and one that is slow."""
    with Upstream(as_asked) as first, Upstream(as_asked) as second, Upstream(Slow()) as slow:
        yield first, second, slow


@pytest.fixture(scope="module")
def config(providers: tuple[Upstream, Upstream, Upstream]) -> dict[str, Any]:
    first, _, slow = providers
    config = two_providers(first, gateway={"workers": 2, "idle_timeout": IDLE_SECONDS})
    config["providers"]["slow"] = {
        "kind": "anthropic",
        "api_key": "sk-slow",
        "base_url": slow.url,
        "models": [{"id": "claude-slow", "tier": 3, "input_price_per_1m": 1, "output_price_per_1m": 2}],
    }
    return config


@pytest.fixture(scope="module")
def gateway(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running(tmp_path_factory.mktemp("reload"), config) as gateway:
        yield gateway


def metric(gateway: Gateway, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", gateway.metrics(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def write(gateway: Gateway, content: dict[str, Any] | str) -> None:
    """In one piece, as people who deploy do it."""
    path = gateway.directory / "aion.yaml"
    if not isinstance(content, str):
        telemetry = {"db_path": str(gateway.directory / "aion.db"), "flush_interval": "100ms"}
        content = json.dumps({"telemetry": telemetry, **content})
    temporary = path.with_suffix(".new")
    temporary.write_text(content)
    temporary.rename(path)


def write_and_wait(gateway: Gateway, content: dict[str, Any] | str, result: str) -> None:
    name = f'aion_config_reloads_total{{result="{result}"}}'
    before = metric(gateway, name)
    write(gateway, content)
    wait_for(lambda: metric(gateway, name) == before + 1, 60)


def ask(gateway: Gateway, model: str, path: str = "/v1/chat/completions") -> httpx.Response:
    return gateway.post(path, {"model": model, "messages": USER, "max_tokens": 50})


def clusters(gateway: Gateway) -> set[str]:
    text = gateway.envoy_admin("clusters")
    return {line.split("::")[0] for line in text.splitlines()}


def test_a_new_configuration_under_load(
    gateway: Gateway, config: dict[str, Any], providers: tuple[Upstream, Upstream, Upstream]
) -> None:
    """Another address and another price, models and a provider that come and go, one worker more."""
    first, second, slow = providers
    gate = threading.Event()

    def answer(request: Received) -> Answer:
        if json.loads(request.body)["model"] == "gpt-mid":
            events: list[bytes | threading.Event] = [*CHAT_EVENTS[:1], gate, *CHAT_EVENTS[1:], CHAT_USAGE, DONE]
            return Answer(content_type="text/event-stream", chunks=events)
        return as_asked(request)

    first.answer = answer
    new = copy.deepcopy(config)
    new["gateway"]["workers"] = 3
    new["auth"] = {"keys": [{"key": "sk-caller", "name": "caller"}], "enabled": False}
    del new["providers"]["slow"]
    openai = new["providers"]["openai"]
    openai["base_url"] = f"{second.url}/v1"
    openai["api_key"] = "sk-rotated"
    openai["models"][0] |= {"input_price_per_1m": 0.75, "output_price_per_1m": 3}
    openai["models"][1]["id"] = "gpt-new"

    stream = {"model": "gpt-mid", "messages": USER, "stream": True, "max_tokens": 50}
    with (
        ThreadPoolExecutor() as threads,
        httpx.stream("POST", gateway.url + "/v1/chat/completions", json=stream, timeout=60) as begun,
        steady(gateway) as load,
    ):
        chunks = begun.iter_raw()
        text = next(chunks)
        waiting = threads.submit(ask, gateway, "claude-slow")  # its answer is translated, by whoever is there then
        wait_for(lambda: slow.received)
        write_and_wait(gateway, new, "applied")
        load.more(100)

        served = ask(gateway, "gpt-small")
        assert served.content == CHAT
        assert second.last.header("authorization") == "Bearer sk-rotated"
        assert float(served.headers["x-aion-cost-usd"]) == pytest.approx((600 * 0.75 + 400 * 0.05 + 200 * 3) / 1e6)
        assert ask(gateway, "gpt-new").status_code == 200
        assert ask(gateway, "gpt-mid").status_code == 404
        assert ask(gateway, "claude-slow").status_code == 404
        ids = {model["id"] for model in httpx.get(gateway.url + "/v1/models").json()["data"]}
        assert "gpt-new" in ids
        assert not {"gpt-mid", "claude-slow"} & ids
        assert len(gateway.children("extproc.worker")) == 3

        gate.set()
        text += b"".join(chunks)
        slow.answer.gate.set()  # type: ignore[attr-defined]
        late = waiting.result(60)
    assert text == b"".join([*CHAT_EVENTS, DONE])
    load.check_rows(gateway)
    # What was decided before costs what it cost then, with names that are not known any more.
    assert (late.status_code, late.json()["choices"][0]["message"]["content"]) == (200, "four")
    late_row = gateway.row(late.headers["x-request-id"])
    assert (late_row.outcome, late_row.model, late_row.estimated) == ("served", "claude-slow", False)
    assert late_row.cost_nano == 1000 * 1000 + 200 * 2000
    begun_row = gateway.row(begun.headers["x-request-id"])
    assert (begun_row.outcome, begun_row.model) == ("served", "gpt-mid")
    assert begun_row.cost_nano == 600 * 2000 + 400 * 200 + 200 * 8000
    # Nobody sent the new key to the old address, nor the other way round.
    assert {request.header("authorization") for request in second.received} == {"Bearer sk-rotated"}
    assert "Bearer sk-rotated" not in {request.header("authorization") for request in first.received}
    assert metric(gateway, "aion_config_generation") == 2


def test_a_file_that_cannot_be_used_changes_nothing_and_says_why(gateway: Gateway, config: dict[str, Any]) -> None:
    good = (gateway.directory / "aion.yaml").read_text()
    generation = metric(gateway, "aion_config_generation")
    broken = copy.deepcopy(config)
    broken["providers"]["openai"]["modls"] = []
    moved = copy.deepcopy(config)
    moved["gateway"] |= {"port": 1, "idle_timeout": "1s"}
    for content, reason in (
        ("providers: {openai: {", "aion.yaml:1: "),
        (broken, "providers.openai.modls: unknown key"),
        ({"providers": {}}, "no provider is enabled"),
        (moved, "gateway.idle_timeout: can only be changed by a restart"),
        ({**config, "telemetry": {"db_path": "other.db"}}, "telemetry.db_path: can only be changed by a restart"),
    ):
        write_and_wait(gateway, content, "refused")
        assert reason in gateway.log.splitlines()[-1]
        assert metric(gateway, "aion_config_last_reload_successful") == 0
        assert metric(gateway, "aion_config_generation") == generation
        assert ask(gateway, "gpt-new").status_code == 200
    write_and_wait(gateway, good, "unchanged")
    assert metric(gateway, "aion_config_last_reload_successful") == 1


def test_what_the_command_line_says_stays(gateway: Gateway, config: dict[str, Any]) -> None:
    """`running` gives the ports there; in the file they are the defaults."""
    assert "port" not in json.loads((gateway.directory / "aion.yaml").read_text())["gateway"]
    before = metric(gateway, 'aion_config_reloads_total{result="unchanged"}')
    gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: metric(gateway, 'aion_config_reloads_total{result="unchanged"}') == before + 1)


def test_an_address_that_was_left_is_forgotten_when_nothing_can_want_it(gateway: Gateway) -> None:
    assert {"provider_openai~2", "provider_anthropic"} <= clusters(gateway)
    wait_for(lambda: not {"provider_openai", "provider_slow"} & clusters(gateway), IDLE_SECONDS + 10)
    assert ask(gateway, "gpt-new").status_code == 200
