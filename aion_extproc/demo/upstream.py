"""The demo upstream: `python -m aion_extproc.demo.upstream --socket PATH` (or `--port N`).

It speaks both chat APIs for any model name, so that a first request works with no provider configured. Its
answers say that they are a demo.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import orjson

from aion_extproc import logs
from aion_extproc.api.serving import serve
from aion_extproc.demo import chat, messages
from aion_extproc.demo.answer import BadRequest

MODELS = ("demo-small", "demo-medium", "demo-large")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Handler = Callable[[Mapping[str, Any]], Mapping[str, Any] | Iterator[bytes]]

POSTS: dict[str, Handler] = {
    "/v1/chat/completions": chat.respond,
    "/v1/messages": messages.respond,
    "/v1/messages/count_tokens": messages.count_tokens,
}
GETS: dict[str, dict[str, Any]] = {
    "/": {"name": "aion demo upstream"},
    "/health": {"status": "ok"},
    "/v1/models": {
        "object": "list",
        "data": [{"id": id_, "object": "model", "created": 0, "owned_by": "demo"} for id_ in MODELS],
    },
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    method, path = scope["method"], scope["path"]
    failure = messages.failure if path.startswith("/v1/messages") else chat.failure
    if path in GETS and method in ("GET", "HEAD"):
        await _send_json(send, 200, GETS[path])
    elif path in POSTS and method == "POST":
        try:
            answer = POSTS[path](await _read_object(receive))
        except BadRequest as error:
            await _send_json(send, 400, failure(str(error), error.param, 400))
        else:
            await (
                _send_json(send, 200, answer) if isinstance(answer, Mapping) else _send_events(send, answer)
            )
    elif path in GETS or path in POSTS:
        await _send_json(send, 405, failure(f"{method} is not possible on {path}", None, 405))
    else:
        await _send_json(send, 404, failure(f"the demo upstream has nothing at {path}", None, 404))


async def _read_object(receive: Receive) -> Mapping[str, Any]:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    try:
        body = orjson.loads(b"".join(parts))
    except orjson.JSONDecodeError:
        raise BadRequest("the body is not valid JSON") from None
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body


async def _send_json(send: Send, status: int, content: Mapping[str, Any]) -> None:
    body = orjson.dumps(content)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_events(send: Send, events: Iterator[bytes]) -> None:
    headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for event in events:
        await send({"type": "http.response.body", "body": event, "more_body": True})
    await send({"type": "http.response.body"})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="aion-demo", description="aion's demo upstream")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--socket", type=Path)
    where.add_argument("--port", type=int, help="on 127.0.0.1")
    options = parser.parse_args(arguments)
    logs.configure()
    serve(app, socket=options.socket, port=options.port or 0)


if __name__ == "__main__":
    main()
