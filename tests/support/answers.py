"""Provider answers for the recording upstream: bytes as the real APIs send them, odd spacing included."""

from __future__ import annotations

import json

from tests.support.upstream import Answer, Received

CHAT = (
    b'{ "id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m",\n "choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"four \\u00e9\\ud83d\\ude00"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":1000,"completion_tokens":200,"total_tokens":1200,'
    b'"prompt_tokens_details":{"cached_tokens":400},"completion_tokens_details":{"reasoning_tokens":50}}}'
)
MESSAGE = (
    b'{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"four"}],'
    b'"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":500,"cache_creation_input_tokens":100,'
    b'"cache_read_input_tokens":400,"cache_creation":{"ephemeral_5m_input_tokens":60,"ephemeral_1h_input_tokens":40},'
    b'"output_tokens":200}}'
)
_HEAD = b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
CHAT_USAGE = (
    b"data: " + _HEAD + b'"choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":200,"total_tokens":1200,'
    b'"prompt_tokens_details":{"cached_tokens":400},"completion_tokens_details":{"reasoning_tokens":50}}}\n\n'
)
CHAT_EVENTS = [
    b"data: " + _HEAD + b'"choices":[{"index":0,"delta":{"role":"assistant","content":"fo"},'
    b'"finish_reason":null}]}\n\n',
    b"data: " + _HEAD + b'"choices":[{"index":0,"delta":{"content":"ur \xc3\xa9"},"finish_reason":null}]}\n\n',
    b"data: " + _HEAD + b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
]
DONE = b"data: [DONE]\n\n"
MESSAGE_EVENTS = [
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant",'
    b'"model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":500,'
    b'"cache_creation_input_tokens":100,"cache_read_input_tokens":400,"output_tokens":1}}}\n\n',
    b'event: ping\ndata: {"type": "ping"}\n\n',
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n',
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"four"}}\n\n',
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
    b'"usage":{"output_tokens":200}}\n\n',
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
]


def as_asked(request: Received) -> Answer:
    """JSON or a stream, in the API's own shape."""
    body = json.loads(request.body)
    if request.path.startswith("/v1/messages"):
        if body.get("stream"):
            return Answer(content_type="text/event-stream", chunks=MESSAGE_EVENTS)
        return Answer(chunks=[MESSAGE])
    if body.get("stream"):
        usage = [CHAT_USAGE] if (body.get("stream_options") or {}).get("include_usage") else []
        return Answer(content_type="text/event-stream", chunks=[*CHAT_EVENTS, *usage, DONE])
    return Answer(chunks=[CHAT])
