"""The two chat APIs that clients speak."""

from enum import StrEnum


class Format(StrEnum):
    """A wire format, named after the API that defined it."""

    OPENAI = "openai"  # POST /v1/chat/completions
    ANTHROPIC = "anthropic"  # POST /v1/messages
