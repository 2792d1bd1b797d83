"""gRPC's server side of one HTTP/2 connection: bytes in, calls told, bytes out. No I/O.

For one kind of peer: Envoy, which calls us with many short streams. RFC 9113, and
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, as far as that needs them: no push, no priorities, no
compression, no TLS. Why it is here, and not grpc.aio: see grpc_server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import hpack
import structlog

from aion_extproc.extproc.grpc_call import INTERNAL, RESOURCE_EXHAUSTED, UNIMPLEMENTED, Handler, Reply
from aion_extproc.extproc.grpc_stream import Stream
from aion_extproc.extproc.http2 import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FLOW_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HAS_PRIORITY,
    HEAD,
    HEADERS,
    INITIAL_WINDOW,
    LARGEST_WINDOW,
    MAX_FRAME,
    MAX_STREAMS,
    NO_ERROR,
    PADDED,
    PING,
    PREFACE,
    REFUSED,
    RST,
    SETTINGS,
    SIZES,
    SMALLEST_FRAME,
    TOO_MUCH,
    WINDOW,
    ProtocolError,
    frame,
    number,
    settings,
    unpadded,
)
from aion_extproc.logs import place

log = structlog.get_logger(__name__)

# What a stream may send us ahead of our reading. We read at once, so this bounds only what is under way.
_OUR_WINDOW = 16 << 20
_OUR_FRAME = 256 << 10
_OUR_STREAMS = 10_000
_LONGEST_HEADERS = 64 << 10
_MOST_KNOWN = 256  # header blocks


class Connection:
    """One HTTP/2 connection. `feed` it what comes; what is to be sent goes to `write`."""

    def __init__(self, handlers: Mapping[str, Handler], write: Callable[[bytes], None], message_limit: int) -> None:
        self.write = write
        self._handlers = handlers
        self._limit = message_limit
        self._buffer = b""
        self._preface = False
        self._decoder = hpack.Decoder(max_header_list_size=_LONGEST_HEADERS)
        self._known: dict[bytes, dict[str, str]] = {}  # header blocks that say what they said before
        self._streams: dict[int, Stream] = {}
        self._last = 0  # the highest stream the peer has opened
        self._window = DEFAULT_WINDOW  # what we may send on all streams together
        self._peer_window = DEFAULT_WINDOW  # of a new stream
        self._peer_frame = SMALLEST_FRAME
        self._received = 0
        self._block: tuple[int, int, bytes] | None = None  # headers whose continuation is to come
        self._draining = False

    @property
    def streams(self) -> int:
        return len(self._streams)

    def begin(self) -> None:
        ours = ((MAX_STREAMS, _OUR_STREAMS), (INITIAL_WINDOW, _OUR_WINDOW), (MAX_FRAME, _OUR_FRAME))
        payload = b"".join(key.to_bytes(2, "big") + number(value) for key, value in ours)
        self.write(frame(SETTINGS, 0, 0, payload) + frame(WINDOW, 0, 0, number(LARGEST_WINDOW - DEFAULT_WINDOW)))

    def feed(self, data: bytes) -> None:
        """ProtocolError: the connection is to be closed; what must be sent before has been written."""
        buffer = self._buffer + data if self._buffer else data
        at = 0
        if not self._preface:
            if len(buffer) < len(PREFACE):
                if not PREFACE.startswith(buffer):
                    raise ProtocolError("no HTTP/2 preface")
                self._buffer = buffer
                return
            if not buffer.startswith(PREFACE):
                raise ProtocolError("no HTTP/2 preface")
            self._preface = True
            at = len(PREFACE)
        size = len(buffer)
        while size - at >= HEAD:
            length = int.from_bytes(buffer[at : at + 3], "big")
            if length > _OUR_FRAME:
                raise ProtocolError("a frame larger than allowed", FRAME_SIZE_ERROR)
            end = at + HEAD + length
            if end > size:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : at + 9], "big") & 0x7FFFFFFF
            payload = buffer[at + HEAD : end]
            at = end
            if self._block is not None and kind != CONTINUATION:
                raise ProtocolError("headers without their continuation")
            if kind == DATA:
                self._data(stream, flags, payload)
            elif kind == HEADERS:
                self._headers(stream, flags, payload)
            else:
                self._control(kind, flags, stream, payload)
        self._buffer = buffer[at:] if at < size else b""

    def lost(self) -> None:
        """The connection is gone."""
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            self._lose(stream)

    def announce(self) -> None:
        """Tell the peer that this connection will close. Streams that it opened before it has read so are served."""
        self.write(frame(GOAWAY, 0, 0, number(LARGEST_WINDOW) + number(NO_ERROR)))

    def drain(self) -> None:
        """Tell the peer to open no more streams here."""
        self._draining = True
        self.write(frame(GOAWAY, 0, 0, number(self._last) + number(NO_ERROR)))

    def fail(self, error: ProtocolError) -> None:
        self.write(frame(GOAWAY, 0, 0, number(self._last) + number(error.code)))

    # What the peer sends

    def _headers(self, id: int, flags: int, payload: bytes) -> None:
        if flags & PADDED:
            payload = unpadded(payload)
        if flags & HAS_PRIORITY:
            payload = payload[5:]
        if not flags & END_HEADERS:
            self._block = (id, flags, payload)
        else:
            self._open(id, flags, payload)

    def _open(self, id: int, flags: int, block: bytes) -> None:
        fields = self._decoded(block)
        stream = self._streams.get(id)
        if stream is not None:  # trailers
            self._ends(stream)
            self._half_close(id, stream)
            return
        if not id % 2:
            raise ProtocolError("a client's stream has an odd number")
        if id <= self._last:
            return  # of a stream that we have ended
        self._last = id
        if self._draining or len(self._streams) >= _OUR_STREAMS:
            self.write(frame(RST, 0, id, number(REFUSED)))
            return
        reply = Reply(self, id)
        stream = self._streams[id] = Stream(reply, self._peer_window)
        stream.half_closed = bool(flags & END_STREAM)
        handler = self._handlers.get(fields.get(":path", ""))
        if handler is None:
            reply.end(UNIMPLEMENTED, "there is no such method")
            return
        try:
            stream.call = handler(reply, fields)
        except Exception as error:
            self._failed(stream, error)
        if flags & END_STREAM:
            self._half_close(id, stream)

    def _decoded(self, block: bytes) -> dict[str, str]:
        # The same bytes mean the same until a block has changed the table. Envoy's calls have the same headers, and
        # soon all that can be is in the table, so nearly all are known.
        known = self._known.get(block)
        if known is not None:
            return known
        if len(block) > _LONGEST_HEADERS:
            raise ProtocolError("headers larger than allowed", TOO_MUCH)
        table = self._decoder.header_table
        entries = table.dynamic_entries
        newest, count, size = entries[0] if entries else None, len(entries), table.maxsize
        try:
            fields = {str(name): str(value) for name, value in self._decoder.decode(block)}
        except hpack.HPACKError:
            raise ProtocolError("headers that cannot be decoded", COMPRESSION_ERROR) from None
        # What is added comes first, and is an object of its own even where it says the same as another.
        same = (entries[0] if entries else None) is newest and len(entries) == count and table.maxsize == size
        if not same or len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        else:
            self._known[block] = fields
        return fields

    def _data(self, id: int, flags: int, payload: bytes) -> None:
        count = len(payload)
        self._received += count
        if self._received > LARGEST_WINDOW // 2:
            self.write(frame(WINDOW, 0, 0, number(self._received)))
            self._received = 0
        stream = self._streams.get(id)
        if stream is None:
            if id > self._last or not id % 2:
                raise ProtocolError("data of a stream that was not opened")
            return
        if flags & PADDED:
            payload = unpadded(payload)
        if flags & END_STREAM:
            self._ends(stream)  # before the call hears of it: its end resets only what is open
        else:
            stream.received += count
            if stream.received > _OUR_WINDOW // 2:
                self.write(frame(WINDOW, 0, id, number(stream.received)))
                stream.received = 0
        data = payload
        if stream.parts:
            stream.parts.append(payload)
            stream.size += len(payload)
            if stream.size < stream.need:
                data = b""
            else:
                data = b"".join(stream.parts)
                stream.parts, stream.size = [], 0
        at, size = 0, len(data)
        while size - at >= 5:
            length = int.from_bytes(data[at + 1 : at + 5], "big")
            if data[at]:
                stream.reply.end(UNIMPLEMENTED, "compressed messages are not read")
                return
            if length > self._limit:
                stream.reply.end(RESOURCE_EXHAUSTED, "the message is too large")
                return
            end = at + 5 + length
            if end > size:
                break
            if not stream.reply.ended:
                self._guarded(stream, stream.call.message, data[at + 5 : end])
            at = end
        if at < size:
            stream.parts, stream.size = [data[at:]], size - at
            stream.need = end - at if size - at >= 5 else 5
        if flags & END_STREAM:
            self._half_close(id, stream)

    def _guarded(self, stream: Stream, told: Callable[..., None], *what: bytes) -> None:
        """A call that fails takes nobody with it."""
        try:
            told(*what)
        except Exception as error:
            self._failed(stream, error)

    def _failed(self, stream: Stream, error: Exception) -> None:
        # The type and place only: an exception's text could quote the request.
        log.error("call_failed", error=type(error).__name__, where=place(error))
        stream.reply.end(INTERNAL, "the call failed")

    def _lose(self, stream: Stream) -> None:
        if not stream.reply.ended:
            stream.reply.disconnected()
            self._guarded(stream, stream.call.lost)

    def _ends(self, stream: Stream) -> None:
        if stream.half_closed:
            raise ProtocolError("a stream that ends twice")
        stream.half_closed = True

    def _half_close(self, id: int, stream: Stream) -> None:
        if not stream.reply.ended:
            self._guarded(stream, stream.call.half_closed)
        if stream.listening and stream.closing is None:
            stream.reply.disconnected()
            self._streams.pop(id, None)

    def _control(self, kind: int, flags: int, id: int, payload: bytes) -> None:
        if len(payload) != SIZES.get(kind, len(payload)):
            raise ProtocolError("a frame of the wrong size", FRAME_SIZE_ERROR)
        if kind == WINDOW:
            self._more_window(id, int.from_bytes(payload, "big") & 0x7FFFFFFF)
        elif kind == RST:
            stream = self._streams.pop(id, None)
            if stream is not None:
                self._lose(stream)
        elif kind == PING:
            if not flags & ACK:
                self.write(frame(PING, ACK, 0, payload))
        elif kind == SETTINGS:
            if not flags & ACK:
                self._settings(payload)
        elif kind == CONTINUATION:
            if self._block is None or self._block[0] != id:
                raise ProtocolError("a continuation of nothing")
            block = self._block[2] + payload
            if len(block) > _LONGEST_HEADERS:
                raise ProtocolError("headers larger than allowed", TOO_MUCH)
            first = self._block[1]
            self._block = None if flags & END_HEADERS else (id, first, block)
            if self._block is None:
                self._open(id, first, block)
        # A push, a priority, the peer's farewell and what is not known: nothing to be done.

    def _settings(self, payload: bytes) -> None:
        values = settings(payload)
        change = values.get(INITIAL_WINDOW, self._peer_window) - self._peer_window
        self._peer_window += change
        self._peer_frame = values.get(MAX_FRAME, self._peer_frame)
        # Before what they let go: the peer may hold us to its old settings until then.
        self.write(frame(SETTINGS, ACK, 0))
        for id, stream in list(self._streams.items()):
            stream.window += change
            self._flush(id, stream)

    def _more_window(self, id: int, more: int) -> None:
        if id == 0:
            if self._window + more > LARGEST_WINDOW:
                raise ProtocolError("a window larger than allowed", FLOW_ERROR)
            self._window += more
            for other, stream in list(self._streams.items()):
                if stream.pending:
                    self._flush(other, stream)
        elif (found := self._streams.get(id)) is not None:
            found.window += more
            self._flush(id, found)

    # What we send

    def send_data(self, id: int, data: bytes) -> None:
        stream = self._streams.get(id)
        if stream is None:
            return
        size = len(data)
        if not stream.pending and size <= self._window and size <= stream.window and size <= self._peer_frame:
            self._window -= size
            stream.window -= size
            self.write(frame(DATA, 0, id, data))
            return
        stream.pending.append(memoryview(data))
        self._flush(id, stream)

    def end_stream(self, id: int, block: bytes, *, listen: bool = False) -> None:
        """`listen`: the call still gets what the peer sends."""
        stream = self._streams.get(id)
        if stream is not None:
            stream.closing = block
            stream.listening = listen
            self._flush(id, stream)

    def _flush(self, id: int, stream: Stream) -> None:
        """Send what the windows allow, in frames that the peer takes."""
        while stream.pending:
            data = stream.pending[0]
            allowed = min(self._window, stream.window, self._peer_frame)
            if allowed <= 0:
                return
            if len(data) <= allowed:
                stream.pending.popleft()
            else:
                stream.pending[0] = data[allowed:]
                data = data[:allowed]
            self._window -= len(data)
            stream.window -= len(data)
            self.write(frame(DATA, 0, id, bytes(data)))
        if stream.closing is not None:
            self.write(frame(HEADERS, END_HEADERS | END_STREAM, id, stream.closing))
            stream.closing = None
            if stream.listening and not stream.half_closed:
                return
            if not stream.half_closed:
                # The peer need not send what is left: nobody reads it.
                self.write(frame(RST, 0, id, number(NO_ERROR)))
            self._streams.pop(id, None)
