"""https providers: server name, certificate check, HTTP/2 where the provider has it."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from tests.support.answers import CHAT, as_asked
from tests.support.configs import two_providers
from tests.support.gateway import free_ports, running, wait_for
from tests.support.upstream import Upstream

BODY = {"model": "gpt-small", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def serving(authority: trustme.CA, name: str, seen: list[str | None]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)

    def note(_: ssl.SSLObject, server_name: str | None, __: ssl.SSLContext) -> None:
        seen.append(server_name)

    context.sni_callback = note
    return context


@pytest.mark.parametrize(("name", "trusted"), [("localhost", True), ("localhost", False), ("other.example", True)])
def test_only_the_named_and_trusted_provider_is_spoken_to(
    tmp_path: Path, authority: trustme.CA, name: str, trusted: bool
) -> None:
    seen: list[str | None] = []
    bundle = tmp_path / "ca.pem"
    (authority if trusted else trustme.CA()).cert_pem.write_to_path(bundle)
    with Upstream(as_asked, tls=serving(authority, name, seen)) as upstream:
        config = two_providers(upstream)
        config["providers"]["openai"]["base_url"] = f"https://localhost:{upstream.port}/v1"
        with running(tmp_path, config, {"SSL_CERT_FILE": str(bundle)}) as gateway:
            answer = gateway.post("/v1/chat/completions", BODY)
            assert "localhost" in seen
            if trusted and name == "localhost":
                assert answer.content == CHAT
                assert upstream.last.header("host") == f"localhost:{upstream.port}"
            else:
                assert answer.status_code == 503
                assert "could not connect" in answer.json()["error"]["message"]
                assert upstream.received == []


def test_http2_is_spoken_where_the_provider_has_it(tmp_path: Path, authority: trustme.CA) -> None:
    """A real HTTP/2 server (hypercorn) in front of the demo's answers."""
    bundle, key, chain = tmp_path / "ca.pem", tmp_path / "key.pem", tmp_path / "chain.pem"
    authority.cert_pem.write_to_path(bundle)
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(key)
    issued.cert_chain_pems[0].write_to_path(chain)
    (port,) = free_ports(1)
    files = ["--certfile", str(chain), "--keyfile", str(key)]
    command = [sys.executable, "-m", "hypercorn", "-b", f"127.0.0.1:{port}", *files, "aion_extproc.demo.upstream:app"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server, Upstream(as_asked) as upstream:
        try:
            wait_for(lambda: _listens(port))
            config = two_providers(upstream)
            config["providers"]["openai"]["base_url"] = f"https://localhost:{port}/v1"
            with running(tmp_path, config, {"SSL_CERT_FILE": str(bundle)}) as gateway:
                answer = gateway.post("/v1/chat/completions", BODY)
                assert answer.json()["usage"]["completion_tokens"] > 0
                stream = gateway.post("/v1/chat/completions", BODY | {"stream": True})
                assert stream.text.endswith("data: [DONE]\n\n")
                assert gateway.envoy_stat("cluster.provider_openai.upstream_cx_http2_total") >= 1
                row = gateway.row(stream.headers["x-request-id"])
                assert (row.outcome, row.estimated) == ("served", False)
        finally:
            server.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
