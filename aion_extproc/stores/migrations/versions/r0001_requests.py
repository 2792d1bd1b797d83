"""The ledger as it was before alembic kept its versions: a row for each request, a row for each failed attempt.

Files of then are taken over as they are; the first of them had no attempts.
"""

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, String

revision = "0001"
down_revision = None


def _text(name: str, *, key: bool = False) -> Column[str]:
    return Column(name, String(256), nullable=False, primary_key=key)


def _int(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def upgrade() -> None:
    op.create_table(
        "requests",
        _text("request_id", key=True),
        _int("at_ms"),
        _text("outcome"),
        Column("status", Integer, nullable=False),
        _text("path"),
        _text("format"),
        Column("stream", Boolean, nullable=False),
        _text("key_name"),
        _text("tenant"),
        _text("asked_model"),
        _text("model"),
        _text("provider"),
        Column("tier", Integer, nullable=False),
        Column("score", Double),
        _text("task"),
        _text("reason"),
        _text("error"),
        Column("attempts", Integer, nullable=False),
        _int("input_tokens"),
        _int("output_tokens"),
        _int("cache_read_tokens"),
        _int("cache_write_tokens"),
        _int("cache_write_1h_tokens"),
        _int("reasoning_tokens"),
        Column("estimated", Boolean, nullable=False),
        Column("cost_nano", BigInteger),
        Column("baseline_nano", BigInteger),
        _text("baseline_model"),
        Column("latency_ms", Double, nullable=False),
        Column("ttft_ms", Double),
        _int("request_bytes"),
        _int("response_bytes"),
        if_not_exists=True,
    )
    op.create_index("requests_at_ms", "requests", ["at_ms"], if_not_exists=True)
    op.create_table(
        "attempts",
        _text("request_id", key=True),
        Column("number", Integer, nullable=False, primary_key=True),
        _int("at_ms"),
        _text("provider"),
        _text("model"),
        Column("status", Integer, nullable=False),
        _text("error"),
        Column("latency_ms", Double, nullable=False),
        Column("cost_nano", BigInteger),
        if_not_exists=True,
    )
    op.create_index("attempts_at_ms", "attempts", ["at_ms"], if_not_exists=True)
