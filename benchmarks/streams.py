"""What a translated stream costs: `python -m benchmarks.streams [--seconds S] [--rounds N] [--litellm PATH]`.

First the translators alone, event by event; then through the gateway: the same client and upstream, once with a
provider of the client's own format (untouched) and once with one of the other (translated); and LiteLLM's proxy doing
the same translation, where its `litellm` command is given. All in turn in one run, so that they can be compared.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import uvloop
from rich.console import Console
from rich.table import Table

from aion_extproc.wire.answer import StreamUsage
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.stream_to_chat import ChatStream
from aion_extproc.wire.translate.stream_to_messages import MessagesStream
from aion_extproc.wire.translate.target import Asked
from benchmarks.load import cpu_seconds
from benchmarks.sides import child, configuration, upstream
from benchmarks.upstream import CHUNKS, chat_events, message_events
from tests.support.gateway import free_ports, running, wait_for

CHUNK_GOAL_US = 60
LITELLM_GOAL = 10
TEXT = "".join(f"word {i} " for i in range(CHUNKS))
PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages"}
_PACE = "x-bench-pace: 0.001\r\n"
_WARM_UP_SECONDS = 1.0
_CONNECTIONS = 16


def body(model: str) -> bytes:
    prompt = {"role": "user", "content": "Count to fifty, please."}
    fields = {"model": model, "max_tokens": 400, "stream": True, "messages": [prompt]}
    return json.dumps(fields).encode()


def text_of(api: str, answer: bytes) -> str:
    """What the client reads; ValueError: the stream has no proper end."""
    found = [line[5:].strip() for line in answer.split(b"\n") if line.startswith(b"data:")]
    if api == "chat":
        if found.pop() != b"[DONE]":
            raise ValueError("no [DONE]")
        choices = [event["choices"] for event in map(orjson.loads, found) if event["choices"]]
        return "".join(choice[0]["delta"].get("content") or "" for choice in choices)
    events = list(map(orjson.loads, found))
    if events[-1]["type"] != "message_stop":
        raise ValueError("no message_stop")
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    return "".join(delta.get("text", "") for delta in deltas)


# The translators alone


def translators() -> dict[str, tuple[Callable[[], Any], list[bytes]]]:
    asked = Asked("fast")
    chat, messages = chat_events(b"x", True), message_events(b"x")
    return {
        "chat, only watched": (lambda: StreamUsage(Format.OPENAI), chat),
        "messages, only watched": (lambda: StreamUsage(Format.ANTHROPIC), messages),
        "chat to messages": (lambda: MessagesStream(asked), chat),
        "messages to chat": (lambda: ChatStream(asked), messages),
    }


def alone(rounds: int) -> dict[str, float]:
    """Microseconds of CPU an event, the median of the rounds."""
    found: dict[str, list[float]] = {name: [] for name in translators()}
    for _ in range(rounds):
        for name, (make, events) in translators().items():
            start = time.process_time()
            for _ in range(200):
                translator = make()
                for event in events:
                    translator.feed(event)
            found[name].append((time.process_time() - start) / 200 / len(events) * 1e6)
    return {name: median(each) for name, each in found.items()}


# Through a gateway


@dataclass(slots=True)
class Side:
    name: str
    api: str  # the client's
    port: int
    model: str
    worker: int | None  # pid of the Python that touches the chunks
    cells: list[dict[str, float]] = field(default_factory=list)


class Reader(asyncio.Protocol):
    """One answer: when its body began, and all of it."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.first = 0.0
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.first and self.received.find(b"\r\n\r\n") + 4 < len(self.received):
            self.first = time.perf_counter()
        if self.received.endswith(b"\r\n0\r\n\r\n") and not self.done.done():
            self.done.set_result(bytes(self.received))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or EOFError(f"after {len(self.received)} bytes"))


async def stream(side: Side, headers: str) -> tuple[float, float]:
    """Seconds to the first byte of the body and to the last, of one stream whose text was right."""
    _, reader = await asyncio.get_running_loop().create_connection(Reader, "127.0.0.1", side.port)
    transport = _
    sent = body(side.model)
    head = (
        f"POST {PATHS[side.api]} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"anthropic-version: 2023-06-01\r\nauthorization: Bearer sk-benchmark\r\n"
        f"content-length: {len(sent)}\r\n{headers}\r\n"
    )
    start = time.perf_counter()
    transport.write(head.encode() + sent)
    try:
        received = await reader.done
    finally:
        transport.close()
    end = time.perf_counter()
    head_bytes, _, chunked = received.partition(b"\r\n\r\n")
    if b" 200 " not in head_bytes.split(b"\r\n")[0] or text_of(side.api, unchunked(chunked)) != TEXT:
        raise ValueError(f"{side.name}: a wrong answer: {received[:300]!r} … {received[-200:]!r}")
    return reader.first - start, end - start


def unchunked(data: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    while True:
        line_end = data.index(b"\r\n", at)
        size = int(data[at:line_end], 16)
        if not size:
            return b"".join(parts)
        parts.append(data[line_end + 2 : line_end + 2 + size])
        at = line_end + 4 + size


async def load(side: Side, connections: int, seconds: float, headers: str) -> dict[str, float]:
    results: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    before = cpu_seconds(side.worker) if side.worker else 0.0

    async def one() -> None:
        while time.perf_counter() < end:
            results.append(await stream(side, headers))

    start = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    elapsed = time.perf_counter() - start
    used = cpu_seconds(side.worker) - before if side.worker else 0.0
    return {
        "per_second": len(results) / elapsed,
        "first_byte_ms": median(first for first, _ in results) * 1000,
        "cpu_ms": used * 1000 / len(results),
    }


@contextlib.contextmanager
def sides(directory: Path, litellm: str | None) -> Iterator[list[Side]]:
    with contextlib.ExitStack() as stack:
        port, _ = stack.enter_context(upstream(directory))
        found = []
        for kind, native in (("openai", "chat"), ("anthropic", "messages")):
            config = configuration(port, "exact", directory / kind)
            config["providers"] = {kind: config["providers"][kind]}
            gateway = stack.enter_context(running(directory / kind, config))
            [worker] = gateway.children("aion_extproc.extproc.worker")
            other = "messages" if native == "chat" else "chat"
            model = config["providers"][kind]["models"][0]["id"]
            found.append(Side(f"{native}, untouched", native, gateway.port, model, worker))
            found.append(Side(f"{native} to {other} client", other, gateway.port, model, worker))
        if litellm:
            proxy = stack.enter_context(litellm_proxy(directory, litellm, port))
            found.append(Side("LiteLLM, chat to messages client", "messages", proxy, "gpt-1", None))
            found.append(Side("LiteLLM, messages to chat client", "chat", proxy, "claude-1", None))
        yield found


@contextlib.contextmanager
def litellm_proxy(directory: Path, command: str, upstream_port: int) -> Iterator[int]:
    """LiteLLM's proxy with one worker, as its documentation starts it; nothing is logged or stored."""
    url = f"http://127.0.0.1:{upstream_port}"
    # hosted_vllm: a server that speaks chat completions; LiteLLM sends openai/ models to another API.
    models = [
        {"model_name": "gpt-1", "litellm_params": {"model": "hosted_vllm/gpt-1", "api_base": f"{url}/v1"}},
        {"model_name": "claude-1", "litellm_params": {"model": "anthropic/claude-1", "api_base": url}},
    ]
    for model in models:
        model["litellm_params"]["api_key"] = "sk-benchmark"  # type: ignore[index]
    path = directory / "litellm.json"
    path.write_text(json.dumps({"model_list": models}))
    [port] = free_ports(1)
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_DOCS": "True"}
    environment["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"  # no key to check, as on our side
    arguments = [command, "--config", str(path), "--port", str(port), "--host", "127.0.0.1", "--num_workers", "1"]
    command_line = ["env", *(f"{key}={value}" for key, value in environment.items()), *arguments]
    log = directory / "litellm.log"
    with child(command_line, log, stdout=log.with_suffix(".out").open("wb")):
        side = Side("LiteLLM", "chat", port, "claude-1", None)
        wait_for(lambda: _answers(side), 120)
        yield port


def _answers(side: Side) -> bool:
    try:
        asyncio.run(stream(side, ""))
    except (OSError, EOFError):
        return False
    return True


def measure(seconds: float, rounds: int, litellm: str | None, progress: Console) -> dict[str, Any]:
    result: dict[str, Any] = {"alone_us": alone(max(rounds, 5))}
    with tempfile.TemporaryDirectory(prefix="aion-bench-") as name, sides(Path(name), litellm) as found:
        for side in found:
            uvloop.run(load(side, 4, _WARM_UP_SECONDS, ""))
        for number in range(1, rounds + 1):
            for side in found:
                progress.print(f"round {number} of {rounds}: {side.name}")
                paced = uvloop.run(load(side, 1, seconds, _PACE))
                full = uvloop.run(load(side, _CONNECTIONS, seconds, ""))
                side.cells.append(
                    {
                        "first_byte_ms": paced["first_byte_ms"],
                        "paced_cpu_us_per_chunk": paced["cpu_ms"] * 1000 / CHUNKS,
                        "per_second": full["per_second"],
                        "full_cpu_ms": full["cpu_ms"],
                    }
                )
        result["sides"] = {
            side.name: {key: median(cell[key] for cell in side.cells) for key in side.cells[0]} for side in found
        }
        result["rounds"] = {side.name: side.cells for side in found}
    return result


def show(result: dict[str, Any], out: Console) -> None:
    table = Table("translator alone", "us an event")
    for name, microseconds in result["alone_us"].items():
        table.add_row(name, f"{microseconds:.1f}")
    out.print(table)
    table = Table("through the gateway", "first byte ms", "Python us a chunk, singly", "streams/s at 16", "Python ms")
    for name, cell in result["sides"].items():
        unknown = name.startswith("LiteLLM")
        table.add_row(
            name,
            f"{cell['first_byte_ms']:.2f}",
            "-" if unknown else f"{cell['paced_cpu_us_per_chunk']:.0f}",
            f"{cell['per_second']:.0f}",
            "-" if unknown else f"{cell['full_cpu_ms']:.2f}",
        )
    out.print(table)
    for native, other in (("chat", "messages"), ("messages", "chat")):
        ours, untouched = result["sides"][f"{native} to {other} client"], result["sides"][f"{native}, untouched"]
        added = ours["first_byte_ms"] - untouched["first_byte_ms"]
        chunk = ours["paced_cpu_us_per_chunk"] - untouched["paced_cpu_us_per_chunk"]
        text = f"{native} to {other}: first byte {added:+.2f} ms, "
        text += f"{chunk:.0f} us of Python a chunk that comes singly (goal {CHUNK_GOAL_US})"
        if theirs := result["sides"].get(f"LiteLLM, {native} to {other} client"):
            ratio = ours["per_second"] / theirs["per_second"]
            text += f", {ratio:.1f} times LiteLLM's streams a second (goal {LITELLM_GOAL})"
        out.print(text)
    if not any(name.startswith("LiteLLM") for name in result["sides"]):
        out.print("LiteLLM was not measured: give the path of its command with --litellm")


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each cell of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--litellm", help="its command, installed in a venv of its own")
    parser.add_argument("--json", type=Path, help="write everything here")
    options = parser.parse_args(arguments)
    result = measure(options.seconds, options.rounds, options.litellm, Console(stderr=True))
    show(result, Console(width=120))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
