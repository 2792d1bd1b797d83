"""An HTTP/1.1 client that shows how an answer came: each chunk of its body is what Envoy had in hand at one time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Framed:
    status: int
    headers: dict[str, str]  # names in lower case
    frames: list[bytes]  # the chunks of a chunked body; else the body in one
    whole: bool  # the body reached its end

    @property
    def body(self) -> bytes:
        return b"".join(self.frames)


@dataclass(frozen=True)
class Post:
    path: str
    body: bytes
    headers: Mapping[str, str]


def post_all(port: int, posts: Sequence[Post], connections: int = 8) -> list[Framed]:
    """The answers, in the order of the requests; each connection is kept alive."""

    async def run() -> list[Framed]:
        answers: dict[int, Framed] = {}
        waiting = iter(enumerate(posts))

        async def connection() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 26)
            for index, post in waiting:
                answers[index] = await _post(reader, writer, post)
                if not answers[index].whole:
                    writer.close()
                    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 26)
            writer.close()

        await asyncio.gather(*(connection() for _ in range(connections)))
        return [answers[index] for index in range(len(posts))]

    return asyncio.run(asyncio.wait_for(run(), 120))


async def _post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, post: Post) -> Framed:
    headers = {"host": "localhost", "content-type": "application/json", "content-length": str(len(post.body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers | dict(post.headers)).items())
    writer.write(f"POST {post.path} HTTP/1.1\r\n{lines}\r\n".encode() + post.body)
    status, *fields = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
    named = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    frames: list[bytes] = []
    whole = True
    try:
        if named.get("transfer-encoding") == "chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                frames.append((await reader.readexactly(size + 2))[:-2])
            await reader.readexactly(2)
        else:
            frames.append(await reader.readexactly(int(named.get("content-length", "0"))))
    except (EOFError, OSError):
        whole = False
    return Framed(int(status.split()[1]), named, frames, whole)
