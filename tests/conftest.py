from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.support.postgres import Postgres, postgres

# How long an example takes is the machine's affair.
settings.register_profile("aion", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("aion")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A real PostgreSQL for all tests. One that kills it starts it again."""
    with postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """The URL of an empty database."""
    postgres_server.ensure()
    with postgres_server.database() as url:
        yield url


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command that runs in the tests' own process logs to a standard error that is gone afterwards."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
