"""The endpoints that a provider can have. Each speaks one of the two formats, also where nothing is translated."""

from __future__ import annotations

from enum import StrEnum

from aion_extproc.wire.format import Format


class Endpoint(StrEnum):
    """What a request asks for, named after the last part of its path."""

    CHAT = "chat"  # POST /v1/chat/completions
    MESSAGES = "messages"  # POST /v1/messages
    COUNT_TOKENS = "count_tokens"  # POST /v1/messages/count_tokens
    EMBEDDINGS = "embeddings"  # POST /v1/embeddings
    COMPLETIONS = "completions"  # POST /v1/completions
    RESPONSES = "responses"  # POST /v1/responses

    @property
    def format(self) -> Format:  # type: ignore[override]  # hides str.format, for which an endpoint has no use
        """Whose error shape, authentication and base path it has."""
        return Format.ANTHROPIC if self in (Endpoint.MESSAGES, Endpoint.COUNT_TOKENS) else Format.OPENAI
