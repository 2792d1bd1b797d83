"""Webhooks: what a receiver gets, when it gets it again, and who must never be asked. Receivers are real servers."""

from __future__ import annotations

import asyncio
import base64
import hmac
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from ipaddress import ip_address

import pytest
import structlog
import trustme
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import SecretStr, TypeAdapter

from aion_extproc.accounting.metrics import Metrics
from aion_extproc.config.webhooks import WebhookSettings
from aion_extproc.events.addresses import Address
from aion_extproc.events.webhooks import PAUSES, Webhooks, resolved, signed
from tests.support.receiver import Got, Receiver, answer

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
TOKEN = "T0KEN"  # receivers have tokens in their URLs
EVENT = {"type": "budget.warning", "data": {"scope": "key", "name": "ci", "percent": 80, "limit_usd": "10.000000"}}
AT_ONCE = (0.0,) * 4


def receiver_at(url: str, **more: object) -> WebhookSettings:
    return TypeAdapter(WebhookSettings).validate_python({"url": url, "secret": SECRET, **more})


def inside(receiver: Receiver, **more: object) -> WebhookSettings:
    """It listens on the loopback."""
    return receiver_at(f"http://127.0.0.1:{receiver.port}/hook?token={TOKEN}", allow_private=True, **more)


class Answered:
    """A resolver that gives these addresses, one list after the other, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append((host, port))
        return [ip_address(text) for text in (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])]


class Counts(Counter[str]):
    """What became of the events; called with each result."""

    def __init__(self) -> None:
        super().__init__()
        self._news = asyncio.Event()

    def __call__(self, result: str) -> None:
        self[result] += 1
        self._news.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not reached():
                self._news.clear()
                await self._news.wait()


def run(play: Callable[[Counts], Coroutine[None, None, None]]) -> Counts:
    counts = Counts()
    asyncio.run(play(counts))
    return counts


async def ended(counts: Counts, of: int) -> None:
    """When so many events have ended."""
    await counts.until(lambda: counts["delivered"] + counts["failed"] + counts["dropped"] >= of)


def valid(got: Got, secret: str = SECRET) -> bool:
    """As the specification has it, by hand."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    expected = "v1," + base64.b64encode(hmac.digest(key, content, "sha256")).decode()
    return got.headers["webhook-signature"] == expected


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # The example that its libraries are tested with.
    headers = signed(
        SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        b'{"test": 2432232314}',
        1614265330,
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-id"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert headers["webhook-timestamp"] == "1614265330"


def test_an_event_arrives_whole_and_signed() -> None:
    async def play(counts: Counts) -> None:
        async with Receiver() as receiver:
            hooks = Webhooks([inside(receiver)], counts)
            hooks.start()
            hooks.emit(EVENT)
            (got,) = await receiver.until(1)
            await ended(counts, 1)
            await hooks.close()
            assert got.target == f"/hook?token={TOKEN}"
            assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
            assert got.headers["content-type"] == "application/json"
            assert valid(got)
            event = got.event
            assert event["id"] == got.headers["webhook-id"]
            assert datetime.fromisoformat(event["created"]).utcoffset() is not None
            assert {"type": event["type"], "data": event["data"]} == EVENT

    assert run(play) == {"delivered": 1}


def test_only_what_a_receiver_asked_for_is_sent_to_it() -> None:
    async def play(counts: Counts) -> None:
        async with Receiver() as all_of_it, Receiver() as some:
            hooks = Webhooks([inside(all_of_it), inside(some, events=["budget.exhausted"])], counts)
            hooks.start()
            hooks.emit(EVENT)
            hooks.emit({"id": "mine", "type": "budget.exhausted", "data": {}})
            await asyncio.gather(all_of_it.until(2), some.until(1))
            await ended(counts, 3)
            await hooks.close()
            assert [got.headers["webhook-id"] for got in some.got] == ["mine"]

    assert run(play) == {"delivered": 3}


@pytest.mark.parametrize("first", [answer(500), answer(503), answer(408), answer(429), b"", b"HTTP/1.1 oh\r\n\r\n"])
def test_it_is_sent_again_as_the_same_event(first: bytes) -> None:
    async def play(counts: Counts) -> None:
        async with Receiver([first, first, answer(200)]) as receiver:
            hooks = Webhooks([inside(receiver)], counts, pauses=AT_ONCE)
            hooks.start()
            hooks.emit(EVENT)
            await ended(counts, 1)
            await hooks.close()
            assert len(receiver.got) == 3
            assert len({got.headers["webhook-id"] for got in receiver.got}) == 1
            assert all(map(valid, receiver.got))

    assert run(play) == {"retried": 2, "delivered": 1}


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 410])
def test_a_refusal_and_a_redirection_end_it(status: int) -> None:
    async def play(counts: Counts) -> None:
        async with Receiver() as elsewhere:
            away = f"location: http://127.0.0.1:{elsewhere.port}/"
            async with Receiver([answer(status, away)]) as receiver:
                hooks = Webhooks([inside(receiver)], counts, pauses=AT_ONCE)
                hooks.start()
                hooks.emit(EVENT)
                await ended(counts, 1)
                await hooks.close()
                assert len(receiver.got) == 1
                assert elsewhere.got == []

    assert run(play) == {"failed": 1}


def test_it_gives_up_after_the_last_pause() -> None:
    async def play(counts: Counts) -> None:
        async with Receiver([answer(500)]) as receiver:
            hooks = Webhooks([inside(receiver)], counts, pauses=AT_ONCE)
            hooks.start()
            hooks.emit(EVENT)
            await ended(counts, 1)
            await hooks.close()
            assert len(receiver.got) == len(AT_ONCE) + 1

    assert run(play) == {"retried": len(AT_ONCE), "failed": 1}
    assert 600 < sum(PAUSES) < 3600


def test_retry_after_is_heeded() -> None:
    async def play(counts: Counts) -> None:
        async with Receiver([answer(429, "retry-after: 1"), answer(200)]) as receiver:
            hooks = Webhooks([inside(receiver)], counts, pauses=AT_ONCE)
            hooks.start()
            start = asyncio.get_running_loop().time()
            hooks.emit(EVENT)
            await ended(counts, 1)
            assert asyncio.get_running_loop().time() - start >= 0.99
            await hooks.close()

    assert run(play) == {"retried": 1, "delivered": 1}


def test_an_endless_answer_is_not_read() -> None:
    async def play(counts: Counts) -> None:
        endless = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n" + b"x" * 100_000
        async with Receiver([endless]) as receiver:
            hooks = Webhooks([inside(receiver)], counts, pauses=())
            hooks.start()
            hooks.emit(EVENT)
            await ended(counts, 1)
            await hooks.close()

    assert run(play) == {"delivered": 1}


def test_the_first_events_are_kept_when_a_queue_is_full() -> None:
    async def play(counts: Counts) -> None:
        async with Receiver() as receiver:
            hooks = Webhooks([inside(receiver)], counts, queue=3)
            for number in range(5):
                hooks.emit({**EVENT, "id": str(number)})  # nothing is sent yet
            assert counts == {"dropped": 2}
            hooks.start()
            await ended(counts, 5)
            await hooks.close()
            assert sorted(got.headers["webhook-id"] for got in receiver.got) == ["0", "1", "2"]

    assert run(play) == {"dropped": 2, "delivered": 3}


def test_an_event_that_is_no_json_raises_nothing() -> None:
    async def play(counts: Counts) -> None:
        async with Receiver() as receiver:
            hooks = Webhooks([inside(receiver)], counts)
            hooks.start()
            hooks.emit({"type": "budget.warning", "data": object()})
            await hooks.close()
            assert receiver.got == []

    assert run(play) == {"dropped": 1}


def test_a_stop_tries_what_is_left_once_more_and_does_not_wait_for_long() -> None:
    async def play(counts: Counts) -> None:
        async with Receiver([answer(500), answer(200)]) as receiver, Receiver([None]) as silent:
            hooks = Webhooks([inside(receiver), inside(silent)], counts, pauses=(3600.0,))
            hooks.start()
            hooks.emit(EVENT)
            await asyncio.gather(receiver.until(1), silent.until(1))
            await counts.until(lambda: counts["retried"] == 1)
            start = asyncio.get_running_loop().time()
            await hooks.close(0.5)
            assert asyncio.get_running_loop().time() - start < 5
            assert len(receiver.got) == 2
            assert counts == {"retried": 1, "delivered": 1, "dropped": 1}
            hooks.emit(EVENT)

    assert run(play) == {"retried": 1, "delivered": 1, "dropped": 3}


def tls(authority: trustme.CA, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert(name).configure_cert(server)
    authority.configure_trust(client)
    return server, client


@pytest.mark.parametrize(("name", "counted"), [("hooks.example.com", "delivered"), ("other.example.com", "failed")])
def test_tls_is_of_the_name_and_not_of_the_address(name: str, counted: str) -> None:
    server, client = tls(trustme.CA(), name)

    async def play(counts: Counts) -> None:
        async with Receiver(tls=server) as receiver:
            resolve = Answered(["127.0.0.1"])
            settings = receiver_at(f"https://hooks.example.com:{receiver.port}/x", allow_private=True)
            hooks = Webhooks([settings], counts, resolve=resolve, tls=client, pauses=())
            hooks.start()
            hooks.emit(EVENT)
            await ended(counts, 1)
            await hooks.close()
            assert resolve.asked == [("hooks.example.com", receiver.port)]
            for got in receiver.got:
                assert got.sni == "hooks.example.com"
                assert got.headers["host"] == f"hooks.example.com:{receiver.port}"
            assert len(receiver.got) == (counted == "delivered")

    assert run(play) == {counted: 1}


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"], ["169.254.169.254"], ["64:ff9b::7f00:1"], ["::1"]],
)
def test_a_name_that_leads_inside_is_not_asked(addresses: list[str]) -> None:
    server, client = tls(trustme.CA(), "hooks.example.com")

    async def play(counts: Counts) -> None:
        async with Receiver(tls=server) as receiver:
            settings = receiver_at(f"https://hooks.example.com:{receiver.port}/")
            hooks = Webhooks([settings], counts, resolve=Answered(addresses), tls=client, pauses=AT_ONCE)
            hooks.start()
            hooks.emit(EVENT)
            await ended(counts, 1)
            await hooks.close()
            assert receiver.got == []

    assert run(play) == {"failed": 1}


def test_the_address_that_was_checked_is_the_one_that_is_asked() -> None:
    """The name leads outside when it is checked and inside when it would be asked for again (DNS rebinding)."""
    server, client = tls(trustme.CA(), "localhost")

    async def play(counts: Counts) -> None:
        async with Receiver(tls=server) as receiver:
            # 2001:4860:: is public; nobody here can reach it. The system's own answer for the name is 127.0.0.1.
            resolve = Answered(["2001:4860::1"], ["127.0.0.1"])
            settings = receiver_at(f"https://localhost:{receiver.port}/")
            hooks = Webhooks([settings], counts, resolve=resolve, tls=client, pauses=AT_ONCE)
            hooks.start()
            hooks.emit(EVENT)
            await ended(counts, 1)
            await hooks.close()
            assert receiver.got == []
            assert len(resolve.asked) == 2

    assert run(play) == {"retried": 1, "failed": 1}


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f000001", "2130706433", "::1"])
def test_the_ways_to_write_the_loopback_are_seen_through(host: str) -> None:
    async def look() -> set[str]:
        return {str(address) for address in await resolved(host, 443)}

    assert asyncio.run(look()) <= {"127.0.0.1", "::1"}


def test_neither_the_url_nor_the_secret_is_logged() -> None:
    async def play(counts: Counts) -> None:
        async with Receiver([answer(404)]) as receiver:
            hooks = Webhooks([inside(receiver)], counts, pauses=())
            hooks.start()
            hooks.emit(EVENT)
            await ended(counts, 1)
            await hooks.close()

    with structlog.testing.capture_logs() as logs:
        run(play)
    assert [entry["event"] for entry in logs] == ["webhook_failed"]
    assert logs[0]["reason"] == "status 404"
    text = repr(logs) + repr(receiver_at(f"https://example.com/{TOKEN}"))
    assert TOKEN not in text
    assert SECRET not in text
    assert SECRET.removeprefix("whsec_") not in text


def test_the_metric_has_every_result() -> None:
    registry = CollectorRegistry()
    metrics = Metrics([], [], registry)
    for result in ("delivered", "retried", "failed", "dropped"):
        metrics.webhook_deliveries.labels(result).inc()
        assert f'aion_webhook_deliveries_total{{result="{result}"}} 1.0' in generate_latest(registry).decode()
