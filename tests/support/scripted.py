"""A provider for tests that refuses what the real one would, and says what a test tells it to in its own format.

with Scripted(Format.ANTHROPIC, "key") as claude:
    claude.says(Says("Hello"))          # one after the other; the last goes on
    …
    assert not claude.problems          # what it was sent that the published schema does not allow
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from aion_extproc.wire.format import Format
from tests.support import scripted_chat, scripted_messages
from tests.support.published import chat_problems, messages_problems
from tests.support.says import Says
from tests.support.upstream import Answer, Received, Upstream

Reply = Says | Answer
_PATHS = {Format.OPENAI: "/v1/chat/completions", Format.ANTHROPIC: "/v1/messages"}


@dataclass
class Scripted:
    """Speaks one format only, and knows one key."""

    format: Format
    key: str
    problems: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)  # of the requests it took
    upstream: Upstream = field(init=False)
    _reply: Callable[[dict[str, Any]], Reply] = field(init=False)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.upstream = Upstream(self._answer)
        self.reset()

    def __enter__(self) -> Scripted:
        self.upstream.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.upstream.__exit__(kind, error, at)

    def reset(self) -> None:
        self.upstream.received.clear()
        self.upstream.disconnected.clear()
        self.problems.clear()
        self.bodies.clear()
        self.says(Says())

    def says(self, *replies: Reply) -> None:
        waiting = list(replies)
        self.replies(lambda _: waiting.pop(0) if len(waiting) > 1 else waiting[0])

    def replies(self, reply: Callable[[dict[str, Any]], Reply]) -> None:
        """What it says to a request, by the request's body."""
        self._reply = reply

    @property
    def url(self) -> str:
        return self.upstream.url

    @property
    def disconnected(self) -> threading.Event:
        return self.upstream.disconnected

    @property
    def last(self) -> dict[str, Any]:
        return self.bodies[-1]

    def _answer(self, request: Received) -> Answer:
        if problems := self._problems(request):
            self.problems += [f"{problem}\n  in {request.body[:2000]!r}" for problem in problems]
            error = {"type": "invalid_request_error", "message": f"REFUSED BY THE SCHEMA: {'; '.join(problems)}"}
            extra = {"param": None, "code": None} if self.format is Format.OPENAI else {}
            kind = {} if self.format is Format.OPENAI else {"type": "error"}
            return Answer(status=400, chunks=[json.dumps({**kind, "error": {**error, **extra}}).encode()])
        body = json.loads(request.body)
        self.bodies.append(body)
        reply = self._reply(body)
        if isinstance(reply, Answer):
            return reply
        # Each its own: Claude Code takes two answers with the same id for two parts of one.
        identity = next(self._numbers)
        if self.format is Format.OPENAI:
            return scripted_chat.answer(reply, body, identity)
        return scripted_messages.answer(reply, body, identity)

    def _problems(self, request: Received) -> list[str]:
        path = request.path.removesuffix("?beta=true")
        if request.method != "POST" or path != _PATHS[self.format]:
            return [f"there is no {request.method} {request.path}"]
        if request.header("content-type") != "application/json":
            return [f"content-type: {request.header('content-type')}"]
        if self.format is Format.OPENAI:
            authorized = request.header("authorization") == f"Bearer {self.key}"
            problems = chat_problems(request.body)
        else:
            authorized = request.header("x-api-key") == self.key
            version = request.header("anthropic-version") or ""
            problems = [] if version else ["anthropic-version: header is required"]
            beta = bool(request.header("anthropic-beta"))
            problems += messages_problems(request.body, version=version, beta=beta)
        return problems if authorized else ["invalid API key", *problems]
