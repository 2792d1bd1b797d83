"""What a server of either API takes, as far as servers differ: the translators ask here instead of knowing names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class ChatTarget:
    """A server of chat completions. The defaults are what the simplest ones take."""

    max_tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    reasoning_effort: bool = False  # takes reasoning_effort
    # A model that refuses function tools unless reasoning is off: reasoning_effort "none" is sent with them.
    tools_need_no_reasoning: bool = False
    sampling: bool = True  # takes temperature and top_p
    stream_options: bool = True  # takes stream_options; one that does not counts its tokens unasked
    # The member of an assistant turn that carries earlier thinking back; "": thinking cannot be given back.
    reasoning: Literal["", "reasoning_content", "reasoning", "reasoning_details"] = ""
    cache_control: bool = False  # takes Anthropic's cache_control on content parts and tools
    files: bool = False  # takes {"type": "file"} parts, PDF among them
    image_urls: bool = True  # takes images by http(s) URL, not only as data URLs
    json_schema: bool = True  # takes response_format json_schema
    parallel_tool_calls: bool = True  # takes parallel_tool_calls
    user: bool = True  # takes user (the end user's opaque id)
    longest_tool_name: int = 64


@dataclass(frozen=True, slots=True)
class MessagesTarget:
    """A server of messages."""

    # How a model is told to think: by {"type": "adaptive"} and output_config.effort, by a budget of tokens, or not.
    thinking: Literal["adaptive", "budget", ""] = "adaptive"
    effort: bool = True  # takes output_config.effort
    json_schema: bool = True  # takes output_config.format
    sampling: bool = True  # takes temperature, top_p and top_k
    image_urls: bool = True  # takes image and document sources of type url
    cache_control: bool = True
    max_tokens: int = 8192  # the answer's limit where the client sets none: messages must have one
    longest_tool_name: int = 128


@dataclass(frozen=True, slots=True)
class Translated:
    """A request in the target's format."""

    body: bytes
    # What the target cannot be told, as the client's own field names: "logprobs", "messages[].name". Sorted, each
    # once, ASCII. For X-AION-Dropped.
    dropped: tuple[str, ...] = ()
    # Tool names that had to be changed for the target: as sent on → as the client knows it.
    tool_names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """What of the request the translator of its answer must know."""

    model: str = ""  # as sent on; for an answer that names none
    wants_usage: bool = False  # a chat stream whose client asked for the usage chunk
    tool_names: Mapping[str, str] = field(default_factory=dict)  # Translated.tool_names
