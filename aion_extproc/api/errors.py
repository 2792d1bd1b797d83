"""Error answers in the shape of the API that was called."""

from __future__ import annotations

from uuid import uuid4

from fastapi import Request
from fastapi.responses import JSONResponse

from aion_extproc.wire.format import Format

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
}


def path_of(request: Request) -> str:
    """The path that is routed by. `request.url` is made of the Host header as well: where that is no host (`a@b`, or
    nothing) its path is another one, and whoever asks it whether a key is needed lets everybody in."""
    path: str = request.scope["path"]
    return path


def format_of(request: Request) -> Format:
    """Anthropic's clients send `anthropic-version` or `x-api-key`. Outside /v1/ the shape is OpenAI's."""
    headers = request.headers
    if path_of(request).startswith("/v1/") and ("anthropic-version" in headers or "x-api-key" in headers):
        return Format.ANTHROPIC
    return Format.OPENAI


def error_answer(
    request: Request,
    status: int,
    message: str,
    *,
    code: str | None = None,
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """`code` and `param` exist in OpenAI's shape only."""
    content: dict[str, object]
    if format_of(request) is Format.ANTHROPIC:
        kind = _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        request_id = request.headers.get("x-request-id") or f"req_{uuid4().hex}"
        content = {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}
    else:
        kind = "server_error" if status >= 500 else "invalid_request_error"
        content = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(content, status, headers)
