"""Envoy's access-log entries, as the real Envoy fills them, to what the ledger wants to know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from aion_extproc.accounting.facts import Facts, encode, encode_usage
from aion_extproc.accounting.settle import Finished
from aion_extproc.accounting.usage import Usage
from aion_extproc.extproc import envoy_pb2 as pb
from aion_extproc.extproc.access_log import read_entry

FACTS = Facts(format="openai", model="gpt-small", provider="openai", tier=1, stream=True)


def entry(facts: Facts | None = FACTS, details: str = "via_upstream", status: int = 200) -> pb.HTTPAccessLogEntry:
    """A request that went well."""
    made = pb.HTTPAccessLogEntry()
    common = made.common_properties
    common.start_time.FromMilliseconds(1_700_000_000_123)
    common.duration.FromMicroseconds(250_500)
    common.time_to_first_upstream_rx_byte.FromMilliseconds(30)
    common.time_to_first_downstream_tx_byte.FromMicroseconds(31_250)
    common.time_to_last_downstream_tx_byte.FromMilliseconds(250)
    common.upstream_cluster = "provider_openai"
    common.upstream_request_attempt_count = 1
    if facts is not None:
        common.metadata.filter_metadata["aion"].fields["facts"].string_value = encode(facts)
    made.request.path = "/v1/chat/completions"
    made.request.request_id = "id-1"
    made.request.request_body_bytes = 100
    made.response.response_code.value = status
    made.response.response_body_bytes = 2000
    made.response.response_code_details = details
    return made


def not_answered(made: pb.HTTPAccessLogEntry) -> pb.HTTPAccessLogEntry:
    made.common_properties.ClearField("time_to_first_upstream_rx_byte")
    return made


def finished(made: pb.HTTPAccessLogEntry) -> Finished:
    # As it comes: what is not set is not on the wire.
    read = read_entry(pb.HTTPAccessLogEntry.FromString(made.SerializeToString()))
    assert read is not None
    return read[0]


def counted(**counts: Any) -> pb.HTTPAccessLogEntry:
    made = entry()
    usage = pb.TokenUsage(**counts)
    packed = AnyMessage(type_url="type.googleapis.com/envoy.data.ai.v3.TokenUsage", value=usage.SerializeToString())
    made.common_properties.metadata.typed_filter_metadata["aion.usage"].CopyFrom(packed)
    return made


def test_a_request_that_went_well() -> None:
    read = read_entry(entry())
    assert read is not None
    assert read[1] == FACTS
    assert read[0] == Finished(
        request_id="id-1",
        at_ms=1_700_000_000_123,
        path="/v1/chat/completions",
        status=200,
        latency_ms=250.5,
        ttft_ms=31.25,
        request_bytes=100,
        response_bytes=2000,
        attempts=1,
        upstream_answered=True,
        client_gone=False,
        whole=True,
        error="",
        usage=None,
        usage_complete=False,
    )


def test_the_clients_path_is_the_one_before_it_was_rewritten() -> None:
    made = entry()
    made.request.original_path = "/v1/v1/chat/completions"
    assert finished(made).path == "/v1/v1/chat/completions"


def test_envoys_count() -> None:
    made = counted(
        input_tokens={"value": 1000},
        output_tokens={"value": 200},
        input_token_details={"cached_tokens": {"value": 400}, "cache_creation_tokens": {"value": 100}},
        output_token_details={"reasoning_tokens": {"value": 50}},
        extraction_status=1,
    )
    found = finished(made)
    assert (found.usage, found.usage_complete) == (Usage(1000, 200, 400, 100, 0, 50), True)
    assert (found.by_envoy, found.service_tier) == (True, None)


@pytest.mark.parametrize("status", [0, 2, 3])
def test_a_count_that_is_not_complete(status: int) -> None:
    found = finished(counted(input_tokens={"value": 7}, extraction_status=status))
    assert (found.usage, found.usage_complete) == (Usage(input_tokens=7), False)


def test_a_count_without_counts_is_none() -> None:
    found = finished(counted(model="m", extraction_status=1))
    assert (found.usage, found.usage_complete) == (None, False)
    zero = finished(counted(input_tokens={"value": 0}, output_tokens={"value": 0}, extraction_status=1))
    assert (zero.usage, zero.usage_complete) == (Usage(), True)


def test_our_own_count_goes_before_envoys() -> None:
    """It tells the lifetimes of cache writes apart."""
    made = counted(input_tokens={"value": 1}, extraction_status=1)
    ours = Usage(1000, 200, 400, 100, 40)
    text = encode_usage(ours, complete=False, service_tier="flex")
    made.common_properties.metadata.filter_metadata["aion"].fields["usage"].string_value = text
    found = finished(made)
    assert (found.usage, found.usage_complete) == (ours, False)
    assert (found.by_envoy, found.service_tier) == (False, "flex")


@pytest.mark.parametrize("flag", ["downstream_connection_termination", "downstream_remote_reset"])
def test_a_client_that_hung_up(flag: str) -> None:
    made = entry(details="downstream_remote_disconnect")
    setattr(made.common_properties.response_flags, flag, True)
    found = finished(made)
    assert (found.client_gone, found.whole, found.upstream_answered) == (True, False, True)
    early = finished(not_answered(made))
    assert (early.client_gone, early.upstream_answered, early.ttft_ms) == (True, False, None)


@pytest.mark.parametrize(("stream", "complete"), [(True, True), (True, False), (False, True)])
def test_a_client_that_hung_up_after_the_last_event_has_it_all(stream: bool, complete: bool) -> None:
    """As SDKs do at [DONE], before Envoy has read the stream's end. Of a JSON answer the rest may be missing."""
    made = entry(details="downstream_remote_disconnect")
    made.common_properties.response_flags.downstream_connection_termination = True
    fields = made.common_properties.metadata.filter_metadata["aion"].fields
    fields["facts"].string_value = encode(replace(FACTS, stream=stream))
    fields["usage"].string_value = encode_usage(Usage(1, 2), complete=complete)
    assert finished(made).whole == (stream and complete)


ERRORS = {
    "upstream_connection_failure": "connect_failed",
    "dns_resolution_failure": "dns_failed",
    "no_healthy_upstream": "no_healthy_upstream",
    "upstream_connection_termination": "upstream_closed",
    "upstream_remote_reset": "upstream_reset",
    "upstream_protocol_error": "upstream_protocol_error",
    "upstream_request_timeout": "upstream_timeout",
    "stream_idle_timeout": "idle_timeout",
    "upstream_overflow": "overflow",
}


@pytest.mark.parametrize("flag", ERRORS)
def test_what_went_wrong_on_the_way(flag: str) -> None:
    before = not_answered(entry(details="upstream_reset_before_response_started{connection_failure}", status=503))
    setattr(before.common_properties.response_flags, flag, True)
    found = finished(before)
    assert (found.error, found.whole, found.upstream_answered, found.ttft_ms) == (ERRORS[flag], False, False, None)
    during = entry(details="upstream_reset_after_response_started{connection_termination}")
    setattr(during.common_properties.response_flags, flag, True)
    found = finished(during)
    assert (found.error, found.whole, found.upstream_answered) == (ERRORS[flag], False, True)


def test_bytes_before_an_answer_are_no_answer() -> None:
    """A provider that closed in the middle of its headers: the 503 is Envoy's."""
    made = entry(details="upstream_reset_before_response_started{connection_termination}", status=503)
    made.common_properties.response_flags.upstream_connection_termination = True
    found = finished(made)
    assert (found.upstream_answered, found.ttft_ms, found.error) == (False, None, "upstream_closed")


def test_a_status_of_the_providers_is_no_error_of_the_way() -> None:
    found = finished(entry(status=503))
    assert (found.error, found.upstream_answered, found.whole) == ("", True, True)


def test_a_worker_that_was_lost() -> None:
    made = not_answered(entry(None, "ext_proc_error_gRPC_error_14{connection_termination}", 500))
    read = read_entry(made)
    assert read is not None
    assert (read[0].error, read[1].error, read[0].upstream_answered) == ("worker_lost", "", False)


def test_a_refusal_of_ours() -> None:
    made = not_answered(entry(Facts(error="invalid_json"), "aion_invalid_json", 400))
    made.common_properties.ClearField("upstream_cluster")
    read = read_entry(made)
    assert read is not None
    assert (read[0].error, read[1].error, read[0].ttft_ms) == ("", "invalid_json", None)


def test_what_the_api_answers_has_no_row() -> None:
    made = entry(None)
    made.common_properties.upstream_cluster = "aion_api"
    assert read_entry(made) is None


def test_broken_http_has_a_row_with_an_id_of_its_own() -> None:
    def broken() -> Finished:
        made = not_answered(entry(None, "http1.codec_error", 400))
        made.request.ClearField("request_id")
        read = read_entry(made)
        assert read is not None
        assert read[1].error == "bad_http"
        return read[0]

    assert broken().request_id
    assert broken().request_id != broken().request_id
    made = not_answered(entry(None, "http1.codec_error", 400))
    made.request.ClearField("request_id")
    made.common_properties.stream_id = "stream-1"
    assert finished(made).request_id == "stream-1"


def test_reading_leaves_the_entry_as_it_was() -> None:
    """Looking a key up in a protobuf map would insert it."""
    made = entry(None)
    before = made.SerializeToString(deterministic=True)
    read_entry(made)
    assert made.SerializeToString(deterministic=True) == before


def test_an_entry_with_nothing_in_it() -> None:
    found = finished(pb.HTTPAccessLogEntry())
    assert (found.status, found.latency_ms, found.upstream_answered, found.usage) == (0, 0.0, False, None)
