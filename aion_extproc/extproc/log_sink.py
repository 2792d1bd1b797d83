"""From Envoy's log entries to ledger rows: one for each request, and one for each attempt that failed before its last.

The entries of one request come in their order, and into the same stream: its attempts, then the request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from aion_extproc.accounting.facts import Facts
from aion_extproc.accounting.row import AttemptRow, LedgerRow
from aion_extproc.accounting.settle import FailedAttempt, settle, settle_attempts
from aion_extproc.extproc import envoy_pb2 as pb
from aion_extproc.extproc.access_log import read_attempt, read_entry
from aion_extproc.extproc.chain import decode_chain
from aion_extproc.extproc.codec import metadata_text
from aion_extproc.extproc.grpc_connection import place
from aion_extproc.extproc.policy import Policies

log = structlog.get_logger(__name__)

Row = LedgerRow | AttemptRow
# A row, the facts of its request, and the Retry-After in seconds that came with it.
Ended = Callable[[Row, Facts, float | None], None]
_MOST_FAILED = 10_000  # requests whose failed attempts are remembered until they end


class LogSink:
    """`ended` is told each row. It must not block."""

    def __init__(self, policies: Policies, ended: Ended) -> None:
        self._policies = policies
        self._ended = ended
        self._failed: dict[str, list[FailedAttempt]] = {}  # of requests that have not ended, by their id

    def message(self, data: bytes) -> None:
        """A StreamAccessLogsMessage as it came."""
        for entry in pb.StreamAccessLogsMessage.FromString(data).http_logs.log_entry:
            try:
                self._entry(entry)
            except Exception as error:  # one bad entry must not cost the others their rows
                log.error("access_log_entry_failed", error=type(error).__name__, where=place(error))

    def _entry(self, entry: pb.HTTPAccessLogEntry) -> None:
        attempt = read_attempt(entry)
        if attempt is not None:
            self._failed.setdefault(attempt.request_id, []).append(attempt)
            if len(self._failed) > _MOST_FAILED:
                del self._failed[next(iter(self._failed))]
            return
        read = read_entry(entry)
        if read is None:
            return
        finished, facts = read
        # The last attempt is told by the request's own row.
        earlier = self._failed.pop(finished.request_id, [])[: max(0, finished.attempts - 1)]
        if earlier:
            self._attempts(earlier, facts, metadata_text(entry.common_properties.metadata, "chain"))
        self._ended(settle(finished, facts, self._policies.of(facts).catalog), facts, finished.retry_after)

    def _attempts(self, failed: Sequence[FailedAttempt], facts: Facts, chain: str) -> None:
        models = [(step.provider, step.model) for step in decode_chain(chain).steps] if chain else []
        models = models or [(facts.provider, facts.model)]
        rows = settle_attempts(failed, models, facts, self._policies.of(facts).catalog)
        for attempt, row in zip(failed, rows, strict=True):
            self._ended(row, facts, attempt.retry_after)
