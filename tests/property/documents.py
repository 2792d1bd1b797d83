"""JSON documents as bytes, written in all the ways that JSON allows, and a slow reader of them to compare with.

Nothing here uses a JSON library: the writer makes what no library would write, and the reader looks at one
character after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

WHITE = st.sampled_from([b""] * 8 + [b" ", b"\n", b"\t", b"\r\n  ", b"   "])
NUMBERS = st.sampled_from(
    b"0 -0 7 -12 12345678901234567890 98765432109876543210987 18446744073709551616 0.1000 1e5 1E+3 -1.5e-300 "
    b"3.141592653589793238462643383279".split()
)
# Inside the quotes. Much of it is there to mislead whoever does not read strings as strings.
PIECES = st.sampled_from(
    [
        rb"\"model\":\"x\"",
        rb"\"model",
        rb"model\"",
        rb"\\\"",
        rb"\\",
        rb"\/",
        rb"\b\f\n\r\t",
        rb"\u00e9",
        rb"\u00E9",
        rb"\ud83d\ude00",
        rb"\u0022model\u0022:",
        rb"\u006dodel",
        rb"\u005c",
        rb"\u0000",
        b"model",
        b"aion_preferences",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b'{\\"a\\":[',
        b" ",
        "é😀ﬁ\u2028\ufeff".encode(),
        b"'",
        b"\x7f",
    ]
)
HALVES = st.sampled_from([rb"\ud83d", rb"\ude00", rb"x\udfffy"])
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\'), max_size=8).map(str.encode)
SPECIAL = ("model", "messages", "stream", "stream_options", "include_usage", "aion_preferences", "max_tokens")


@st.composite
def strings(draw: st.DrawFn) -> bytes:
    """A string with its quotes; never with half a surrogate pair."""
    pieces = draw(st.lists(PIECES | TEXTS, max_size=4))
    return b'"' + b"".join(pieces) + b'"'


@st.composite
def spelled(draw: st.DrawFn, name: str) -> bytes:
    """A name as a string, most often plainly, else with some of its letters as escapes."""
    escaped = draw(st.sampled_from([0, 0, 0, -1]) | st.integers(0, 2 ** len(name) - 1))
    form = draw(st.sampled_from(["\\u%04x", "\\u%04X"]))
    letters = (form % ord(letter) if escaped >> place & 1 else letter for place, letter in enumerate(name))
    return f'"{"".join(letters)}"'.encode()


KEYS = strings() | st.sampled_from(SPECIAL).flatmap(spelled)


@st.composite
def objects(draw: st.DrawFn, pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """These members in this order, with white space."""
    parts = [
        draw(WHITE) + key + draw(WHITE) + b":" + draw(WHITE) + value + draw(WHITE) for key, value in pairs
    ]
    return b"{" + (b",".join(parts) or draw(WHITE)) + b"}"


@st.composite
def arrays(draw: st.DrawFn, items: Sequence[bytes]) -> bytes:
    return b"[" + (b",".join(draw(WHITE) + item + draw(WHITE) for item in items) or draw(WHITE)) + b"]"


SCALARS = strings() | NUMBERS | st.sampled_from([b"true", b"false", b"null"])


def _nested(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.lists(inner, max_size=3).flatmap(arrays) | st.lists(st.tuples(KEYS, inner), max_size=3).flatmap(objects)


@st.composite
def towers(draw: st.DrawFn) -> bytes:
    """A scalar a long way down. orjson reads 1024 levels."""
    levels = draw(st.integers(7, 900))
    opening, closing = draw(st.sampled_from([(b"[", b"]"), (b'{"model":', b"}"), (b'[ {"a" : [', b"]}\n]")]))
    per = opening.count(b"[") + opening.count(b"{")
    return opening * (levels // per) + draw(SCALARS) + closing * (levels // per)


SHALLOW = st.recursive(SCALARS, _nested, max_leaves=8)
VALUES = SHALLOW | towers()


@st.composite
def requests(draw: st.DrawFn, models: st.SearchStrategy[str] | None = None) -> bytes:
    """A body that parse() accepts in either format. Of a key that comes twice the last one counts, so that one is
    good and those before it may be anything."""
    if models is None:
        model = draw(strings().filter(lambda name: name != b'""'))
    else:
        model = b'"' + draw(models).encode() + b'"'
    # The parser that takes half a surrogate pair does not go as deep as the other.
    halves = draw(st.integers(0, 9)) == 0
    content = b'"' + draw(HALVES) + b'"' if halves else draw(strings())
    values = SHALLOW if halves else VALUES
    messages = b'[{"role":"user","content":' + content + b"}," + draw(WHITE) + b'{"content":"hi","role":"user"}]'
    # Half of them as most clients write them, with nothing that makes the places hard to find.
    plain = draw(st.booleans())
    good = [("model", model), ("messages", messages)]
    if draw(st.booleans()):
        good.append(("stream", draw(st.sampled_from([b"true", b"false", b"null"]))))
    if not plain and draw(st.booleans()):
        good.append(("stream_options", draw(stream_options(values))))
    if not plain and draw(st.booleans()):
        hints = [b"null", b"{}", b'{"tier" : 2}', b'{"prefer_speed":true}']
        good.append(("aion_preferences", draw(st.sampled_from(hints))))
    earlier = draw(st.lists(st.tuples(st.sampled_from([name for name, _ in good]), values), max_size=0 if plain else 3))
    others = draw(st.lists(st.tuples(strings().filter(lambda key: not _is_special(key)), values), max_size=3))
    order = draw(st.permutations([*(name for name, _ in good), *(name for name, _ in earlier)]))
    left = {name: [value for other, value in earlier if other == name] + [value] for name, value in good}
    pairs = [(f'"{name}"'.encode() if plain else draw(spelled(name)), left[name].pop(0)) for name in order]
    for pair in others:
        pairs.insert(draw(st.integers(0, len(pairs))), pair)
    return draw(WHITE) + draw(objects(pairs)) + draw(WHITE)


@st.composite
def stream_options(draw: st.DrawFn, values: st.SearchStrategy[bytes]) -> bytes:
    if draw(st.integers(0, 4)) == 0:
        return b"null"
    pairs = draw(st.lists(st.tuples(strings(), values), max_size=2))
    for _ in range(draw(st.integers(0, 2))):
        asked = (draw(spelled("include_usage")), draw(st.sampled_from([b"true", b"false", b"null"])))
        pairs.insert(draw(st.integers(0, len(pairs))), asked)
    return draw(objects(pairs))


def _is_special(key: bytes) -> bool:
    return text(key) in SPECIAL


@dataclass(frozen=True)
class Part:
    """One member: what it says and the bytes it is written with."""

    key: str
    before: bytes  # from the bracket or comma before it
    written: bytes  # its key, up to the value
    value: bytes


@dataclass(frozen=True)
class Document:
    lead: bytes  # up to the opening bracket
    parts: tuple[Part, ...]
    gaps: tuple[bytes, ...]  # after each value, up to the comma or closing bracket
    tail: bytes  # after the closing bracket

    @property
    def keys(self) -> list[str]:
        return [part.key for part in self.parts]


def read(data: bytes) -> Document:
    """An object's members, in order. ValueError when it is not one."""
    at = _white(data, 0)
    lead = data[:at]
    at = _expect(data, at, b"{")
    parts: list[Part] = []
    gaps: list[bytes] = []
    begin, at = at, _white(data, at)
    if data[at : at + 1] != b"}":
        while True:
            start = _white(data, begin)
            key_end = _string(data, start)
            value = _white(data, _expect(data, _white(data, key_end), b":"))
            end = _value(data, value)
            parts.append(Part(text(data[start:key_end]), data[begin:start], data[start:value], data[value:end]))
            at = _white(data, end)
            gaps.append(data[end:at])
            if data[at : at + 1] != b",":
                break
            begin = at + 1
    at = _expect(data, at, b"}")
    if _white(data, at) != len(data):
        raise ValueError("something after the object")
    return Document(lead, tuple(parts), tuple(gaps), data[at:])


def _white(data: bytes, at: int) -> int:
    while data[at : at + 1] in (b" ", b"\t", b"\r", b"\n"):
        at += 1
    return at


def _expect(data: bytes, at: int, token: bytes) -> int:
    if data[at : at + 1] != token:
        raise ValueError(f"{token!r} expected at {at}")
    return at + 1


def _string(data: bytes, at: int) -> int:
    at = _expect(data, at, b'"')
    while data[at : at + 1] != b'"':
        at += 2 if data[at : at + 1] == b"\\" else 1
        if at >= len(data):
            raise ValueError("a string without an end")
    return at + 1


def _value(data: bytes, at: int) -> int:
    depth = 0
    while True:
        this = data[at : at + 1]
        if this == b'"':
            at = _string(data, at)
        elif this in (b"{", b"["):
            depth, at = depth + 1, at + 1
        elif this in (b"}", b"]"):
            depth, at = depth - 1, at + 1
        elif depth:
            at += 1
        else:
            while data[at : at + 1] not in (b",", b"}", b"]", b" ", b"\t", b"\r", b"\n", b""):
                at += 1
        if depth == 0:
            return at
        if at >= len(data):
            raise ValueError("a value without an end")


def text(quoted: bytes) -> str:
    """What a string says; half a surrogate pair stays one."""
    units = [unit for piece in _units(quoted[1:-1]) for unit in piece]
    return b"".join(unit.to_bytes(2, "little") for unit in units).decode("utf-16-le", "surrogatepass")


def _units(data: bytes) -> Iterator[list[int]]:
    plain = {ord("b"): 8, ord("f"): 12, ord("n"): 10, ord("r"): 13, ord("t"): 9}
    at = 0
    while at < len(data):
        if data[at] != 0x5C:
            end = data.find(b"\\", at)
            end = len(data) if end < 0 else end
            words = data[at:end].decode().encode("utf-16-le")
            yield [int.from_bytes(words[i : i + 2], "little") for i in range(0, len(words), 2)]
            at = end
        elif data[at + 1] == ord("u"):
            yield [int(data[at + 2 : at + 6], 16)]
            at += 6
        else:
            yield [plain.get(data[at + 1], data[at + 1])]
            at += 2
