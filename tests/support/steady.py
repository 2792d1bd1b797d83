"""A steady load of JSON and streams in both formats, of which nothing may go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from aion_extproc.accounting.cost import usd
from benchmarks.load import Answer, Client
from tests.support.answers import CHAT, CHAT_EVENTS, DONE, MESSAGE, MESSAGE_EVENTS
from tests.support.gateway import Gateway, wait_for

CONNECTIONS = 6
_PAUSE_SECONDS = 0.01  # between an answer and the next request: what is new must get some of the machine too
_CHAT_STREAM, _MESSAGE_STREAM = b"".join([*CHAT_EVENTS, DONE]), b"".join(MESSAGE_EVENTS)


@dataclass
class Steady:
    """What has been answered so far, and what was wrong with any of it. The provider answers `as_asked`."""

    answers: list[Answer] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def more(self, count: int) -> None:
        """Until so many more have been answered."""
        goal = len(self.answers) + count
        wait_for(lambda: len(self.answers) >= goal or self.wrong)

    def check_rows(self, gateway: Gateway) -> None:
        """Every answer has exactly one row, which says what the client was told it cost."""
        ids = Counter(answer.headers["x-request-id"] for answer in self.answers)
        wait_for(lambda: ids.keys() <= {row.request_id for row in gateway.rows()})
        rows = [row for row in gateway.rows() if row.request_id in ids]
        assert Counter(row.request_id for row in rows) == ids
        assert {(row.outcome, row.estimated) for row in rows} == {("served", False)}
        told = {answer.headers["x-request-id"]: answer.headers["x-aion-cost-usd"] for answer in self.answers}
        for row in rows:
            assert row.cost_nano is not None
            assert row.stream or usd(row.cost_nano) == told[row.request_id], row


@contextlib.contextmanager
def steady(gateway: Gateway) -> Iterator[Steady]:
    """Under way until the block ends; fails there if anything was wrong."""
    found = Steady()
    done = threading.Event()
    kinds = [
        ("/v1/chat/completions", False, CHAT),
        ("/v1/chat/completions", True, _CHAT_STREAM),
        ("/v1/messages", False, MESSAGE),
        ("/v1/messages", True, _MESSAGE_STREAM),
    ]

    async def one(at: int) -> None:
        client = Client("127.0.0.1", gateway.port)
        while not done.is_set():
            path, stream, expected = kinds[at % len(kinds)]
            at += 1
            message = {"role": "user", "content": "hello"}
            body = {"model": "aion-auto", "messages": [message], "stream": stream, "max_tokens": 50}
            try:
                answer = await client.post(path, json.dumps(body).encode())
            except (OSError, EOFError) as error:
                found.wrong.append(repr(error))
                client.close()
                continue
            if answer.status != 200 or answer.body != expected:
                found.wrong.append(f"{path} stream={stream}: {answer.status} {answer.body[:200]!r}")
            found.answers.append(answer)
            await asyncio.sleep(_PAUSE_SECONDS)
        client.close()

    async def all_of_them() -> None:
        await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))

    thread = threading.Thread(target=lambda: asyncio.run(all_of_them()))
    thread.start()
    try:
        found.more(50)
        yield found
        found.more(50)
    finally:
        done.set()
        thread.join(30)
    assert not found.wrong, found.wrong[:3]
