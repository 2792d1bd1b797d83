"""From Envoy's log entries to ledger rows: one for each request, and one for each attempt that failed before its last.

The entries of one request come in their order, and into the same stream: its attempts, then the request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import structlog

from aion_extproc.accounting.facts import Facts
from aion_extproc.accounting.row import AttemptRow, LedgerRow
from aion_extproc.accounting.settle import Finished, settle, settle_attempts
from aion_extproc.extproc import envoy_pb2 as pb
from aion_extproc.extproc.access_log import read_attempt, read_entry
from aion_extproc.extproc.chain import decode_chain
from aion_extproc.extproc.codec import metadata_text
from aion_extproc.extproc.failed_attempts import FailedAttempts
from aion_extproc.extproc.policy import Policies
from aion_extproc.logs import place

log = structlog.get_logger(__name__)

Row = LedgerRow | AttemptRow
# A row, the facts of its request, and the Retry-After in seconds that came with it; None for an attempt's.
Ended = Callable[[Row, Facts, float | None], None]


class LogSink:
    """`ended` is told each row, and must not block. `failed` has the attempts until their request ends."""

    def __init__(self, policies: Policies, ended: Ended, failed: FailedAttempts) -> None:
        self._policies = policies
        self._ended = ended
        self._failed = failed

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
            self._failed.logged(attempt)
            return
        read = read_entry(entry)
        if read is None:
            return
        finished, facts = read
        if finished.attempts > 1:
            facts = self._earlier(finished, facts, metadata_text(entry.common_properties.metadata, "chain"))
        else:
            self._failed.ended(finished.request_id, ())  # the only attempt is told by the request's own row
        self._ended(settle(finished, facts, self._policies.of(facts).catalog), facts, finished.retry_after)

    def _earlier(self, finished: Finished, facts: Facts, chain: str) -> Facts:
        """Make the rows of the attempts before the last. The facts of the last: where Envoy found no way to it, nobody
        has written them, and those at hand are of an attempt before."""
        steps = decode_chain(chain).steps if chain else ()
        models = [(step.provider, step.model) for step in steps] or [(facts.provider, facts.model)]
        models += [models[-1]] * (finished.attempts - len(models))  # Envoy stays at the last of a chain
        *earlier, last = models[: finished.attempts]
        failed = self._failed.ended(finished.request_id, earlier)
        for row in settle_attempts(failed, earlier, facts, self._policies.of(facts).catalog):
            self._ended(row, facts, None)
        if last == (facts.provider, facts.model):
            return facts
        tier = steps[min(finished.attempts, len(steps)) - 1].tier
        return replace(facts, provider=last[0], model=last[1], tier=tier)
