"""Envoy's access-log entries, which arrive for every request, also when the client hung up."""

from __future__ import annotations

import uuid
from dataclasses import replace

from google.protobuf.duration_pb2 import Duration

from aion_extproc.accounting.facts import Facts, Reported, decode, decode_usage
from aion_extproc.accounting.settle import FailedAttempt, Finished
from aion_extproc.accounting.usage import Usage
from aion_extproc.extproc import envoy_pb2 as pb
from aion_extproc.extproc.codec import metadata_text
from aion_extproc.extproc.ended import FLAGS, WORKER_LOST, how_it_ended
from aion_extproc.gateway.spec import ENDED_HEADER, FALLBACK_CLUSTER, USAGE_NAMESPACE

_COMPLETE = 1  # TokenUsage.extraction_status


def read_attempt(entry: pb.HTTPAccessLogEntry) -> FailedAttempt | None:
    """An entry of the log of failed attempts; None where it is one of the other log, of finished requests."""
    common = entry.common_properties
    if common.access_log_type != pb.UpstreamEnd:
        return None
    status = entry.response.response_code.value
    by_fallback = common.upstream_cluster == FALLBACK_CLUSTER
    error, ours = how_it_ended(entry.response.response_headers.get(ENDED_HEADER, "") if by_fallback else "")
    if error and not ours:
        status = 0  # it is the fallback listener's, in the provider's place
    error = error or _flagged(common) or (f"provider_{status}" if status else "upstream_reset")
    return FailedAttempt(
        request_id=entry.request.request_id,
        at_ms=common.start_time.ToMilliseconds(),
        status=status,
        error=error,
        latency_ms=_milliseconds(common.duration),
        retry_after=_retry_after(entry.response),
        ours=ours,
    )


def read_entry(entry: pb.HTTPAccessLogEntry) -> tuple[Finished, Facts] | None:
    """What the ledger wants to know of it; None for what needs no row (the API's own paths)."""
    common, request, response = entry.common_properties, entry.request, entry.response
    text = metadata_text(common.metadata, "facts")
    facts = decode(text) if text else None
    details = response.response_code_details
    error, client_gone = _flagged(common), False
    if common.HasField("response_flags"):
        flags = common.response_flags
        client_gone = flags.downstream_connection_termination or flags.downstream_remote_reset
    lost = details.startswith("ext_proc")
    if not error and lost:
        error = WORKER_LOST
    if details == "overload":
        error = "overloaded"
    if not error:
        error = metadata_text(common.metadata, "stream_error")
    if facts is None:
        if common.upstream_cluster == "aion_api":
            return None
        # Nobody has decided: the worker was lost, the client left while it was still sending, Envoy had no memory
        # left, or this was no HTTP.
        facts = Facts(error="" if lost or client_gone else error or "bad_http")
    refused = metadata_text(common.metadata, "refused")
    if refused and not facts.error:
        facts = replace(facts, error=refused)  # a later attempt that could not be made: no model's fault
    # A provider that broke off before its answer began may still have sent bytes; then the status is Envoy's.
    began = common.HasField("time_to_first_upstream_rx_byte") and "before_response" not in details
    answered = began or details.startswith("via_upstream")
    reported = _usage(common.metadata)
    usage, complete = (reported.usage, reported.complete) if reported is not None else (None, False)
    # Clients hang up as soon as they have read a stream's last event, which may be before Envoy has read its end.
    read_all = facts.stream and complete
    duration = _milliseconds(common.duration) or _milliseconds(common.time_to_last_downstream_tx_byte) or 0.0
    first = common.time_to_first_downstream_tx_byte if common.HasField("time_to_first_downstream_tx_byte") else None
    finished = Finished(
        # Envoy refuses broken HTTP before it has made an id.
        request_id=request.request_id or common.stream_id or str(uuid.uuid4()),
        at_ms=common.start_time.ToMilliseconds(),
        path=request.original_path or request.path,
        status=response.response_code.value,
        latency_ms=duration,
        ttft_ms=_milliseconds(first) if first is not None and answered else None,
        request_bytes=request.request_body_bytes,
        response_bytes=response.response_body_bytes,
        attempts=common.upstream_request_attempt_count,
        upstream_answered=answered,
        client_gone=client_gone,
        whole=not error and (not client_gone or read_all),
        error=error,
        usage=usage,
        usage_complete=complete,
        retry_after=_retry_after(response),
        service_tier=reported.service_tier if reported is not None else None,
        by_envoy=reported is not None and reported.by_envoy,
    )
    return finished, facts


def _flagged(common: pb.AccessLogCommon) -> str:
    if not common.HasField("response_flags"):  # set only where something went wrong
        return ""
    flags = common.response_flags
    return next((code for flag, _, code in FLAGS if getattr(flags, flag)), "")


def _retry_after(response: pb.HTTPResponseProperties) -> float | None:
    """Seconds; the header's other form, a date, is not used by any provider we know."""
    value = response.response_headers.get("retry-after", "")
    return float(value) if value.isdecimal() else None


def _usage(metadata: pb.Metadata) -> Reported | None:
    """Ours, where aion.response has read the answer; else Envoy's."""
    text = metadata_text(metadata, "usage")
    if text:
        return decode_usage(text)
    if USAGE_NAMESPACE not in metadata.typed_filter_metadata:
        return None
    counts = pb.TokenUsage.FromString(metadata.typed_filter_metadata[USAGE_NAMESPACE].value)
    if not counts.HasField("input_tokens") and not counts.HasField("output_tokens"):
        return None
    usage = Usage(
        input_tokens=counts.input_tokens.value,
        output_tokens=counts.output_tokens.value,
        cache_read_tokens=counts.input_token_details.cached_tokens.value,
        cache_write_tokens=counts.input_token_details.cache_creation_tokens.value,
        reasoning_tokens=counts.output_token_details.reasoning_tokens.value,
    )
    return Reported(usage, counts.extraction_status == _COMPLETE, by_envoy=True)


def _milliseconds(duration: Duration | None) -> float:
    return 0.0 if duration is None else duration.seconds * 1000 + duration.nanos / 1e6
