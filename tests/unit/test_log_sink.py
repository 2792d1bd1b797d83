"""From Envoy's log entries of a request to its rows, and to what health hears of its attempts."""

from __future__ import annotations

from dataclasses import replace

from aion_extproc.accounting.facts import Facts, encode
from aion_extproc.accounting.row import AttemptRow, LedgerRow
from aion_extproc.extproc import envoy_pb2 as pb
from aion_extproc.extproc.chain import Chain, Step, encode_chain
from aion_extproc.extproc.failed_attempts import FailedAttempts
from aion_extproc.extproc.lessons import observation
from aion_extproc.extproc.log_sink import LogSink, Row
from aion_extproc.extproc.policy import Policies
from aion_extproc.routing.health import Observation
from tests.support.exchanges import OPEN
from tests.unit.test_access_log import FACTS, entry, not_answered

STEPS = (
    Step("openai", "gpt-small", 1, 1, 1),
    Step("anthropic", "claude-small", 1, 1, 1),
    Step("openai", "gpt-mid", 2, 1, 1),
)
SECOND = replace(FACTS, provider="anthropic", model="claude-small")


class Play:
    """A sink, the rows that it made, and what health has heard."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.heard: list[Observation] = []
        self.failed = FailedAttempts(self.heard.append)
        self.sink = LogSink(Policies(OPEN), self._ended, self.failed)

    def _ended(self, row: Row, facts: Facts, retry_after: float | None) -> None:
        self.rows.append(row)
        if isinstance(row, LedgerRow) and (seen := observation(row, facts, retry_after)) is not None:
            self.heard.append(seen)

    def log(self, *entries: pb.HTTPAccessLogEntry) -> None:
        message = pb.StreamAccessLogsMessage()
        message.http_logs.log_entry.extend(entries)
        self.sink.message(message.SerializeToString())

    def attempts(self) -> list[tuple[int, str, str, str]]:
        rows = [row for row in self.rows if isinstance(row, AttemptRow)]
        return [(row.number, row.provider, row.model, row.error) for row in rows]

    def request(self) -> LedgerRow:
        (row,) = [row for row in self.rows if isinstance(row, LedgerRow)]
        return row


def failed(status: int) -> pb.HTTPAccessLogEntry:
    """An entry of the upstream log: it has no metadata and no number."""
    made = pb.HTTPAccessLogEntry()
    made.common_properties.access_log_type = pb.UpstreamEnd
    made.common_properties.duration.FromMilliseconds(7)
    made.request.request_id = "id-1"
    made.response.response_code.value = status
    return made


def ended(facts: Facts, attempts: int, made: pb.HTTPAccessLogEntry | None = None) -> pb.HTTPAccessLogEntry:
    """The request's own entry."""
    made = made or entry(facts)
    made.common_properties.upstream_request_attempt_count = attempts
    fields = made.common_properties.metadata.filter_metadata["aion"].fields
    fields["facts"].string_value = encode(facts)
    fields["chain"].string_value = encode_chain(Chain("chat", "", (), None, STEPS))
    return made


def lost(status: int, retry_after: float | None = None) -> Observation:
    return Observation("openai", "gpt-small", False, f"provider_{status}", retry_after)


def test_health_hears_of_an_attempt_before_the_request_ends() -> None:
    play = Play()
    first = failed(503)
    first.response.response_headers["retry-after"] = "7"
    play.log(first)
    assert play.heard == []
    play.failed.named("id-1", [("openai", "gpt-small")], 0.0)
    assert play.heard == [lost(503, 7.0)]
    assert play.rows == []
    play.log(ended(SECOND, 2))
    assert [one.ok for one in play.heard] == [False, True]
    assert play.attempts() == [(1, "openai", "gpt-small", "provider_503")]
    assert play.request().model == "claude-small"


def test_without_a_worker_s_word_health_hears_of_it_at_the_end() -> None:
    play = Play()
    play.log(failed(503), failed(500), ended(replace(FACTS, model="gpt-mid", tier=2), 3))
    assert play.heard[:2] == [lost(503), Observation("anthropic", "claude-small", False, "provider_500")]
    assert [row[:3] for row in play.attempts()] == [(1, "openai", "gpt-small"), (2, "anthropic", "claude-small")]


def test_the_last_attempt_is_told_by_the_request_s_own_row() -> None:
    play = Play()
    play.failed.named("id-1", [("openai", "gpt-small")], 0.0)
    play.log(failed(503), failed(500), ended(SECOND, 2, entry(SECOND, status=500)))
    assert play.heard == [lost(503), Observation("anthropic", "claude-small", False, "provider_500")]
    assert [row[:3] for row in play.attempts()] == [(1, "openai", "gpt-small")]


def test_a_connection_that_is_tried_again_is_the_same_model_s() -> None:
    play = Play()
    made = ended(FACTS, 2)
    del made.common_properties.metadata.filter_metadata["aion"].fields["chain"]
    play.log(failed(0), made)
    assert play.heard[0] == Observation("openai", "gpt-small", False, "upstream_reset")
    assert [row[:3] for row in play.attempts()] == [(1, "openai", "gpt-small")]


def test_a_provider_that_no_way_leads_to_is_blamed_itself() -> None:
    """No exchange ran for it, so the metadata are those of the attempt before."""
    made = not_answered(entry(FACTS, details="no_healthy_upstream", status=503))
    made.common_properties.response_flags.no_healthy_upstream = True
    play = Play()
    play.log(failed(503), ended(FACTS, 2, made))
    assert play.heard == [lost(503), Observation("anthropic", "claude-small", False, "no_healthy_upstream")]
    row = play.request()
    assert (row.provider, row.model, row.tier, row.error) == ("anthropic", "claude-small", 1, "no_healthy_upstream")


def test_an_attempt_that_we_refuse_to_make_is_nobody_s_fault() -> None:
    made = ended(FACTS, 2, not_answered(entry(FACTS, details="aion_no_such_model", status=503)))
    made.common_properties.metadata.filter_metadata["aion"].fields["refused"].string_value = "no_such_model"
    play = Play()
    play.log(failed(503), failed(0), made)
    assert play.heard == [lost(503)]
    row = play.request()
    assert (row.outcome, row.error, row.status, row.model) == ("refused", "no_such_model", 503, "claude-small")
    assert len(play.attempts()) == 1
