"""Errors in the shape of the API that was called."""

from __future__ import annotations

import orjson

from aion_extproc.wire.format import Format

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class RequestError(ValueError):
    """A request that is refused. The message is for the client's user and never holds a secret."""

    def __init__(self, code: str, message: str, *, status: int = 400, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code  # short and stable: the metric's label and OpenAI's `code`
        self.message = message
        self.status = status
        self.param = param  # the field at fault, as a path: messages[0].role


def error_body(error: RequestError, format: Format, request_id: str) -> bytes:
    """The body of an error answer. Whatever of the client's stands in the message is made UTF-8."""
    message = error.message.encode("utf-8", "replace").decode()
    if format is Format.ANTHROPIC:
        fallback = "invalid_request_error" if error.status < 500 else "api_error"
        kind = _ANTHROPIC_TYPES.get(error.status, fallback)
        detail = {"type": kind, "message": message}
        return orjson.dumps({"type": "error", "error": detail, "request_id": request_id})
    fallback = "invalid_request_error" if error.status < 500 else "server_error"
    kind = _OPENAI_TYPES.get(error.status, fallback)
    return orjson.dumps(
        {"error": {"message": message, "type": kind, "param": error.param, "code": error.code}}
    )
