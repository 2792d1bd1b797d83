"""What the translators of answers have in common."""

from __future__ import annotations

from typing import Protocol

from aion_extproc.accounting.usage import Usage


class AnswerError(ValueError):
    """A provider's answer that is none: not JSON, an error body under a 200, not of its API's shape.

    The message is for the client's user; it may quote what the provider said, bounded, never the request."""

    def __init__(self, code: str, message: str, status: int = 502) -> None:
        super().__init__(message)
        self.code = code  # short and stable, for the ledger: bad_answer | error_answer
        self.message = message
        self.status = status  # for the client, where no answer has begun


class StreamTranslator(Protocol):
    """A stream in one format in, cut anywhere; the same in the other format out, as early as it can be known.

    Neither method raises: whatever is wrong with the stream becomes one in-band error event in the client's
    format, after which nothing more comes out.
    """

    usage: Usage | None  # what is known so far
    complete: bool  # the final count has been seen
    # What was wrong, for the ledger: bad_stream | cut_stream (it ended before its own end) | error_event (the provider
    # said so in-band). "": nothing.
    error: str

    def feed(self, chunk: bytes) -> bytes:
        """What of the translated stream this chunk completes; b"": nothing yet."""
        ...

    def finish(self) -> bytes:
        """The provider's stream has ended: what is still owed to the client."""
        ...
