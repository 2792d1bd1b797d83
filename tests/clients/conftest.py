from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.answers import as_asked
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running
from tests.support.upstream import Upstream

CLIENT_KEY = "aion-key-of-team-a"
# Models whose breaker a test may trip. Nobody else is sent there: they are dear.
FAILING = {
    "openai": ("gpt-fails-429", "gpt-fails-500", "gpt-rests"),
    "anthropic": ("claude-fails-429", "claude-fails-500", "claude-fails-529"),
}


@pytest.fixture(scope="session")
def shared_provider() -> Iterator[Upstream]:
    with Upstream(as_asked) as upstream:
        yield upstream


@pytest.fixture
def provider(shared_provider: Upstream) -> Iterator[Upstream]:
    """The upstream behind `gateway` and `guarded`. A test may set `answer`; it is put back."""
    shared_provider.answer = as_asked
    shared_provider.received.clear()
    shared_provider.disconnected.clear()
    yield shared_provider
    shared_provider.answer = as_asked


@pytest.fixture(scope="session")
def open_gateway(shared_provider: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = two_providers(shared_provider)
    for provider, models in FAILING.items():
        prices = {"input_price_per_1m": 50, "output_price_per_1m": 50}
        config["providers"][provider]["models"] += [{"id": model, "tier": 3, **prices} for model in models]
    with running(tmp_path_factory.mktemp("open"), config) as gateway:
        yield gateway


@pytest.fixture
def gateway(open_gateway: Gateway, provider: Upstream) -> Gateway:
    """Anybody may call it."""
    return open_gateway


@pytest.fixture(scope="session")
def shared_guarded(shared_provider: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    auth = {"keys": [{"key": CLIENT_KEY, "name": "team-a", "tenant": "acme"}]}
    with running(tmp_path_factory.mktemp("guarded"), two_providers(shared_provider, auth=auth)) as gateway:
        yield gateway


@pytest.fixture
def guarded(shared_guarded: Gateway, provider: Upstream) -> Gateway:
    """It wants CLIENT_KEY."""
    return shared_guarded


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """`aion up` with no configuration and no key: the built-in demo."""
    with running(tmp_path_factory.mktemp("demo"), None) as gateway:
        if "DEMO" not in gateway.log:
            pytest.skip(f"NOT TESTED: a local model server runs on this machine, so there is no demo:\n{gateway.log}")
        yield gateway
