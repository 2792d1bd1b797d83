"""Events to receivers over HTTP, signed as Standard Webhooks has it, so that any of its libraries can check them.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md: `webhook-id` is the event's
and stays the same when it is sent again; `webhook-signature` is `v1,` and the base64 of HMAC-SHA256 over
`id.timestamp.body`.

Every receiver has a queue of its own. What does not fit is dropped: the first news of a budget matter more than the
last. What is in the queues is in memory, and lost with the process.

A receiver's URL could lead into our own network, by its name today or by its name's answer tomorrow. So the name is
resolved by us, once an attempt; every address that it has must be public; and the connection goes to one of those.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import logging
import random
import socket
import ssl
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import ip_address
from typing import Any, Literal

import httpx
import orjson
import structlog
from pydantic import SecretStr

from aion_extproc.config.webhooks import WebhookSettings, signing_key
from aion_extproc.events.addresses import Address, is_public

log = structlog.get_logger(__name__)
logging.getLogger("httpx").setLevel(logging.WARNING)  # below it, it logs URLs

# delivered; retried: it is tried again; failed: given up; dropped: there was no room, or no time left at the stop.
Result = Literal["delivered", "retried", "failed", "dropped"]
Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]

# Seconds between attempts, on average: a quarter of an hour in all.
PAUSES = (1.0, 4.0, 15.0, 60.0, 240.0, 600.0)
_LONGEST_PAUSE = 600.0  # whatever a receiver asks for
_ATTEMPT_SECONDS = 10.0
_MOST_READ = 4096  # bytes of an answer's body, which nobody looks at
_QUEUE = 256  # events for one receiver
_SENDERS = 4  # to one receiver at a time: an event that it always refuses must not hold up the others
_RETRIED = frozenset({408, 425, 429})  # and all 5xx


class _Refused(Exception):
    """It must not, or need not, be sent again; the text says why, without the URL."""


@dataclass(frozen=True, slots=True)
class _Delivery:
    id: str
    type: str
    body: bytes


class Webhooks:
    """The receivers of a configuration. `count`: told of the result of every attempt, for the metrics."""

    def __init__(
        self,
        settings: Sequence[WebhookSettings],
        count: Callable[[Result], None],
        *,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
        pauses: Sequence[float] = PAUSES,
        queue: int = _QUEUE,
    ) -> None:
        tls = tls or ssl.create_default_context()
        self._count = count
        self._receivers = [_Receiver(one, count, resolve or resolved, tls, pauses, queue) for one in settings]

    def start(self) -> None:
        """Begin to send, in the loop that runs."""
        for receiver in self._receivers:
            receiver.start()

    def emit(self, event: Mapping[str, Any]) -> None:
        """Tell who wants to know of an event: `type`, `data` (plain JSON), and `id` where the same event may be told
        twice, so that a receiver can tell. Returns at once, and raises nothing."""
        event = {
            "id": f"msg_{uuid.uuid4().hex}",
            "created": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        } | dict(event)
        kind = str(event.get("type"))
        try:
            delivery = _Delivery(str(event["id"]), kind, orjson.dumps(event))
        except TypeError as error:
            log.error("webhook_event_unusable", type=kind, reason=str(error))
            self._count("dropped")
            return
        for receiver in self._receivers:
            receiver.put(delivery)

    async def close(self, seconds: float = 1.0) -> None:
        """Try once more all that is left, for so long at most."""
        await asyncio.gather(*(receiver.close(seconds) for receiver in self._receivers))


class _Receiver:
    def __init__(
        self,
        settings: WebhookSettings,
        count: Callable[[Result], None],
        resolve: Resolve,
        tls: ssl.SSLContext,
        pauses: Sequence[float],
        queue: int,
    ) -> None:
        self._settings = settings
        self._url = httpx.URL(settings.url.get_secret_value())
        self._count = count
        self._resolve = resolve
        self._tls = tls
        self._pauses = pauses
        self._queue: asyncio.Queue[_Delivery] = asyncio.Queue(queue)
        self._leaving = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._send()) for _ in range(_SENDERS)]

    def put(self, delivery: _Delivery) -> None:
        if delivery.type not in self._settings.events:
            return
        if self._leaving.is_set():
            self._ended(delivery, "dropped", "the gateway stops")
            return
        try:
            self._queue.put_nowait(delivery)
        except asyncio.QueueFull:
            self._ended(delivery, "dropped", "its queue is full")

    async def close(self, seconds: float) -> None:
        self._leaving.set()  # whoever waits for the next attempt makes it now
        if self._tasks:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._queue.join(), seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while not self._queue.empty():
            self._ended(self._queue.get_nowait(), "dropped", "the gateway stops")

    async def _send(self) -> None:
        while True:
            delivery = await self._queue.get()
            try:
                await self._deliver(delivery)
            except asyncio.CancelledError:
                self._ended(delivery, "dropped", "the gateway stops")
                raise
            except _Refused as refused:
                self._ended(delivery, "failed", str(refused))
            except Exception as error:  # whatever a receiver makes happen, the next event is sent to it
                self._ended(delivery, "failed", f"internal error: {type(error).__name__}")
            finally:
                self._queue.task_done()

    async def _deliver(self, delivery: _Delivery) -> None:
        """_Refused: it was given up."""
        for number, pause in enumerate([*self._pauses, None]):
            asked = 0.0
            try:
                async with asyncio.timeout(_ATTEMPT_SECONDS):
                    answer = await self._attempt(delivery, number)
            except TimeoutError:
                problem = "no answer in time"
            except (OSError, httpx.HTTPError) as error:
                problem = type(error).__name__  # its text could have the URL in it
            else:
                status = answer.status_code
                if 200 <= status < 300:
                    self._count("delivered")
                    return
                problem = f"status {status}"
                if status not in _RETRIED and status < 500:
                    raise _Refused(problem)
                asked = _retry_after(answer)
            if pause is None or self._leaving.is_set():
                raise _Refused(f"given up after {number + 1} attempts: {problem}")
            self._count("retried")
            await self._pause(max(pause * random.uniform(0.5, 1.5), min(asked, _LONGEST_PAUSE)))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._leaving.wait(), seconds)

    async def _attempt(self, delivery: _Delivery, number: int) -> httpx.Response:
        host, port = self._url.host, self._url.port or (443 if self._url.scheme == "https" else 80)
        addresses = await self._resolve(host, port)
        if not self._settings.allow_private and not all(map(is_public, addresses)):
            raise _Refused("its host has an address that is not public; allow_private: true is for receivers in there")
        address = addresses[number % len(addresses)]
        headers = signed(self._settings.secret, delivery.id, delivery.body, int(time.time()))
        # A client of its own: a connection that is kept could be another receiver's at the same address.
        transport = httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False)
        async with (
            httpx.AsyncClient(transport=transport, trust_env=False, timeout=_ATTEMPT_SECONDS) as client,
            client.stream(
                "POST",
                self._url.copy_with(host=str(address)),
                content=delivery.body,
                headers=headers | {"host": self._url.netloc.decode()},
                extensions={"sni_hostname": self._url.raw_host.decode().strip("[]")},
                follow_redirects=False,
            ) as answer,
        ):
            read = 0
            async for chunk in answer.aiter_raw():
                read += len(chunk)
                if read > _MOST_READ:
                    break
            return answer

    def _ended(self, delivery: _Delivery, result: Result, reason: str) -> None:
        self._count(result)
        log.warning(
            f"webhook_{result}", host=self._url.host, type=delivery.type, event_id=delivery.id, reason=reason
        )


def signed(secret: SecretStr, id: str, body: bytes, timestamp: int) -> dict[str, str]:
    """The headers of a delivery."""
    signature = hmac.digest(signing_key(secret), f"{id}.{timestamp}.".encode() + body, sha256)
    return {
        "content-type": "application/json",
        "user-agent": "aion-extproc",
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }


async def resolved(host: str, port: int) -> Sequence[Address]:
    """All addresses of a name, or the one that it is. OSError: it has none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ip_address(entry[4][0]) for entry in found]


def _retry_after(answer: httpx.Response) -> float:
    """Seconds; 0 where the answer asks for none, or for a date."""
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdecimal() else 0.0
