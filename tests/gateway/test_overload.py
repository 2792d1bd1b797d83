"""More than a worker can hold is refused, in the client's shape and before memory grows."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import httpx
import pytest

from tests.support.answers import as_asked
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running, wait_for
from tests.support.upstream import Upstream

MOST = 3
BYTES = 200_000
PATHS = ["/v1/chat/completions", "/v1/messages"]
BODY = json.dumps(
    {"model": "gpt-small", "messages": [{"role": "user", "content": "x" * 60_000}], "max_tokens": 5}
).encode()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    limits = {"worker_open_requests": MOST, "worker_open_bytes": BYTES, "max_body_bytes": BYTES}
    with Upstream(as_asked) as upstream:
        config = two_providers(upstream, gateway=limits)
        with running(tmp_path_factory.mktemp("overload"), config) as gateway:
            yield gateway


class Begun:
    """A request of which all but the last byte has been sent."""

    def __init__(self, port: int, size: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self._connection.putrequest("POST", PATHS[0])
        self._connection.putheader("content-type", "application/json")
        self._connection.putheader("content-length", str(len(BODY)))
        self._connection.endheaders(BODY[:size])
        self._rest = BODY[size:]

    def finish(self) -> int:
        self._connection.send(self._rest)
        status = self._connection.getresponse().status
        self._connection.close()
        return status

    def leave(self) -> None:
        self._connection.close()


def ask(gateway: Gateway, path: str) -> httpx.Response:
    return gateway.post(path, {"model": "gpt-small", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5})


def refused(gateway: Gateway, path: str) -> httpx.Response | None:
    answer = ask(gateway, path)
    return None if answer.status_code == 200 else answer


def refused_with(gateway: Gateway, body: bytes) -> httpx.Response | None:
    answer = gateway.post(PATHS[0], body)
    return None if answer.status_code == 200 else answer


def served(gateway: Gateway) -> bool:
    return ask(gateway, PATHS[0]).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_what_is_too_much_is_refused_and_what_is_there_is_served(gateway: Gateway, path: str) -> None:
    begun = [Begun(gateway.port, 10) for _ in range(MOST)]
    answer = wait_for(lambda: refused(gateway, path))
    error = answer.json()
    if path == "/v1/messages":
        assert (answer.status_code, error["type"], error["error"]["type"]) == (529, "error", "overloaded_error")
    else:
        assert (answer.status_code, error["error"]["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.error) == ("refused", "overloaded")
    # Those that were there first lose nothing, and then there is room again.
    assert [one.finish() for one in begun] == [200] * MOST
    wait_for(lambda: served(gateway))


def test_bytes_count_as_they_come(gateway: Gateway) -> None:
    """Two that are nearly all here leave room for half of a third: the one whose bytes are too many goes."""
    first, second = Begun(gateway.port, 59_000), Begun(gateway.port, 59_000)
    big = json.dumps({"model": "gpt-small", "messages": [{"role": "user", "content": "x" * 150_000}]}).encode()
    answer = wait_for(lambda: refused_with(gateway, big))
    assert answer.json()["error"]["code"] == "overloaded"
    assert (first.finish(), second.finish()) == (200, 200)
    wait_for(lambda: gateway.post(PATHS[0], big).status_code == 200)


def test_clients_that_leave_in_the_middle_leave_no_load(gateway: Gateway) -> None:
    for _ in range(5):
        begun = [Begun(gateway.port, 20_000) for _ in range(MOST + 1)]
        for one in begun:
            one.leave()
    wait_for(lambda: served(gateway))
    begun = [Begun(gateway.port, 10) for _ in range(MOST - 1)]
    assert served(gateway)
    assert [one.finish() for one in begun] == [200] * (MOST - 1)
