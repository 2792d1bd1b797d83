"""Keys of callers, tenants, and tenants' own keys at providers; stores.keys_tables says what each column means."""

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, String, Text, text

revision = "0003"
down_revision = "0002"


def _name(name: str, *, key: bool = False) -> Column[str]:
    return Column(name, String(64), nullable=False, primary_key=key)


def _int(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def upgrade() -> None:
    op.create_table(
        "access_version",
        Column("id", Integer, primary_key=True, autoincrement=False),
        _int("version"),
    )
    op.execute("INSERT INTO access_version (id, version) VALUES (1, 1)")
    op.create_table(
        "keys",
        Column("digest", LargeBinary(32), primary_key=True),
        _name("name"),
        _name("tenant"),
        Column("hint", String(8), nullable=False),
        Column("rules", Text, nullable=False),
        _int("created_at_ms"),
        Column("revoked_at_ms", BigInteger),
        _int("version"),
    )
    op.create_index("keys_version", "keys", ["version"])
    current = text("revoked_at_ms IS NULL")
    op.create_index(
        "keys_current_name", "keys", ["name"], unique=True, sqlite_where=current, postgresql_where=current
    )
    op.create_table(
        "tenants",
        _name("id", key=True),
        Column("rules", Text, nullable=False),
        _int("created_at_ms"),
        Column("deleted", Boolean, nullable=False),
        _int("version"),
    )
    op.create_index("tenants_version", "tenants", ["version"])
    op.create_table(
        "tenant_provider_keys",
        _name("tenant", key=True),
        _name("provider", key=True),
        Column("sealed", Text, nullable=False),
        Column("hint", String(8), nullable=False),
        _int("created_at_ms"),
    )
