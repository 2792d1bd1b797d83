"""Sums by the hour, what is there summed once; and more columns: service, tags, the reference's cost, energy, and
whose request an attempt was."""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, String

revision = "0002"
down_revision = "0001"

HOUR_MS = 3_600_000
KEYS = (
    "tenant", "key_name", "service", "provider", "model", "tier", "task", "outcome", "baseline_model", "reference_model"
)  # fmt: skip
ATTEMPT_KEYS = ("tenant", "key_name", "service", "provider", "model")

COMPARED = "cost_nano IS NOT NULL AND baseline_nano IS NOT NULL"
REFERRED = "cost_nano IS NOT NULL AND reference_nano IS NOT NULL"
UNPRICED = "outcome IN ('served', 'cut') AND provider <> '' AND cost_nano IS NULL"
SUMS = {
    "requests": "count(*)",
    "estimated": "sum(CASE WHEN estimated THEN 1 ELSE 0 END)",
    "unpriced": f"sum(CASE WHEN {UNPRICED} THEN 1 ELSE 0 END)",
    "cost_nano": "sum(coalesce(cost_nano, 0))",
    "compared": f"sum(CASE WHEN {COMPARED} THEN 1 ELSE 0 END)",
    "compared_cost_nano": f"sum(CASE WHEN {COMPARED} THEN cost_nano ELSE 0 END)",
    "baseline_nano": f"sum(CASE WHEN {COMPARED} THEN baseline_nano ELSE 0 END)",
    "referred": f"sum(CASE WHEN {REFERRED} THEN 1 ELSE 0 END)",
    "referred_cost_nano": f"sum(CASE WHEN {REFERRED} THEN cost_nano ELSE 0 END)",
    "reference_nano": f"sum(CASE WHEN {REFERRED} THEN reference_nano ELSE 0 END)",
    "input_tokens": "sum(input_tokens)",
    "output_tokens": "sum(output_tokens)",
    "cache_read_tokens": "sum(cache_read_tokens)",
    "cache_write_tokens": "sum(cache_write_tokens)",
    "cache_write_1h_tokens": "sum(cache_write_1h_tokens)",
    "reasoning_tokens": "sum(reasoning_tokens)",
    "metered": "sum(CASE WHEN energy_low_mj IS NULL THEN 0 ELSE 1 END)",
    "energy_low_mj": "sum(coalesce(energy_low_mj, 0))",
    "energy_high_mj": "sum(coalesce(energy_high_mj, 0))",
    "latency_us": "sum({micros})",
}
ATTEMPT_SUMS = {
    "attempts": "count(*)",
    "unpriced": "sum(CASE WHEN cost_nano IS NULL THEN 1 ELSE 0 END)",
    "cost_nano": "sum(coalesce(cost_nano, 0))",
}


def upgrade() -> None:
    for table, names in (("requests", ("service", "tags", "reference_model")), ("attempts", ATTEMPT_KEYS[:3])):
        for name in names:
            op.add_column(table, Column(name, String(256), nullable=False, server_default=""))
    for name in ("reference_nano", "energy_low_mj", "energy_high_mj"):
        op.add_column("requests", Column(name, BigInteger))
    for name in ("tenant", "key_name"):
        op.execute(
            f"UPDATE attempts SET {name} = (SELECT {name} FROM requests WHERE request_id = attempts.request_id)"
            " WHERE request_id IN (SELECT request_id FROM requests)"
        )
    op.create_table("ledger_marks", Column("name", String(64), primary_key=True), _int("value"))
    _summed("hourly", "requests", KEYS, SUMS)
    _summed("hourly_attempts", "attempts", ATTEMPT_KEYS, ATTEMPT_SUMS)


def _int(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _summed(table: str, source: str, keys: tuple[str, ...], sums: dict[str, str]) -> None:
    """`dims`: all keys in one, since an index of PostgreSQL holds no more than 2.7 KB."""
    columns: list[Column[int] | Column[str]] = [
        Column(key, Integer, nullable=False) if key == "tier" else Column(key, String(256), nullable=False)
        for key in keys
    ]
    op.create_table(
        table,
        Column("hour", BigInteger, primary_key=True, autoincrement=False),
        Column("dims", String, primary_key=True),
        *columns,
        *(_int(name) for name in sums),
    )
    listed = ", ".join(keys)
    if op.get_bind().dialect.name == "sqlite":
        dims, micros = f"json_array({listed})", "CAST(latency_ms * 1000 AS INTEGER)"
    else:
        dims = f"encode(sha256(convert_to(jsonb_build_array({listed})::text, 'UTF8')), 'hex')"
        micros = "CAST(trunc(latency_ms * 1000) AS BIGINT)"
    values = ", ".join(sums.values()).replace("{micros}", micros)
    op.execute(
        f"INSERT INTO {table} (hour, dims, {listed}, {', '.join(sums)})"
        f" SELECT at_ms / {HOUR_MS}, {dims}, {listed}, {values} FROM {source}"
        f" GROUP BY at_ms / {HOUR_MS}, {listed}"
    )
