"""The section `telemetry`: one database, its secret, where rows wait, how long they stay."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from aion_extproc.catalog.catalog import Catalog
from aion_extproc.config.schema import Settings, Telemetry
from aion_extproc.extproc.assignment import Assignment, Generation, dump_assignment, load_assignment

URL = "postgresql://aion:a-secret-password@db.example:5432/aion"


def test_the_database_is_a_file_unless_there_is_a_url() -> None:
    assert Telemetry().target == "./data/aion.db"
    assert Telemetry(db_path="x.db").spool == "x.db.spool"
    telemetry = Telemetry.model_validate({"db_url": URL, "spool_dir": "/var/spool/aion", "retention": "90d"})
    assert (telemetry.target, telemetry.spool, telemetry.retention) == (URL, "/var/spool/aion", 90 * 86_400)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"db_url": URL, "db_path": "x.db"}, "not both"),
        ({"db_url": "mysql://aion:a-secret-password@x"}, "must be postgresql://"),
        ({"retention": "23h"}, "at least a day"),
        ({"retention": 1e400}, "at least a day"),
        ({"spool_bytes": 5}, "greater than or equal to 1048576"),
    ],
)
def test_what_cannot_be_is_refused_without_its_secret(given: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        Telemetry.model_validate(given)
    assert "a-secret-password" not in str(caught.value)


def test_the_url_reaches_the_workers_and_no_dump(tmp_path: Path) -> None:
    settings = Settings.model_validate({"telemetry": {"db_url": URL}})
    assert "a-secret-password" not in repr(settings) + settings.model_dump_json()
    handed = load_assignment(dump_assignment(Assignment(Generation(1, settings, Catalog(())))))
    assert handed.current.settings.telemetry.target == URL
