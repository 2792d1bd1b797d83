from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.answers import as_asked
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running
from tests.support.upstream import Upstream


@pytest.fixture(scope="session")
def provider() -> Iterator[Upstream]:
    """The upstream behind `gateway`. A test may set `answer`; it is put back."""
    with Upstream(as_asked) as upstream:
        yield upstream


@pytest.fixture(scope="session")
def shared_gateway(provider: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running(tmp_path_factory.mktemp("gateway"), two_providers(provider)) as gateway:
        yield gateway


@pytest.fixture
def gateway(shared_gateway: Gateway, provider: Upstream) -> Iterator[Gateway]:
    """One gateway for all tests that do not break it."""
    provider.answer = as_asked
    provider.received.clear()
    provider.disconnected.clear()
    yield shared_gateway
    provider.answer = as_asked
