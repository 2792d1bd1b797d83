"""A receiver of webhooks: a real HTTP/1.1 server that answers by a script and keeps what it got."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import orjson


@dataclass(frozen=True, slots=True)
class Got:
    """A request. `sni`: the name in the TLS greeting."""

    target: str
    headers: dict[str, str]
    body: bytes
    sni: str | None

    @property
    def event(self) -> dict[str, Any]:
        return orjson.loads(self.body)  # type: ignore[no-any-return]


class Receiver:
    """`answers`: whole responses in turn, the last one for ever; None: nothing is answered, for as long as it runs."""

    def __init__(self, answers: Sequence[bytes | None] = (), tls: ssl.SSLContext | None = None) -> None:
        self._answers = list(answers) or [answer(204)]
        self._tls = tls
        self._sni: str | None = None
        self.got: list[Got] = []
        self.port = 0
        self._news = asyncio.Condition()
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        if self._tls is not None:
            self._tls.sni_callback = self._named
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._open:
            writer.close()

    async def until(self, count: int) -> list[Got]:
        """When so many requests have come."""
        async with asyncio.timeout(20), self._news:
            await self._news.wait_for(lambda: len(self.got) >= count)
        return self.got

    def _named(self, _: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        self._sni = name

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        said = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        async with self._news:
            self.got.append(Got(head[0].split(" ")[1], headers, body, self._sni))
            self._news.notify_all()
        if said is not None:
            writer.write(said)
            writer.close()


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status} x", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body
