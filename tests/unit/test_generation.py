"""From one configuration to the next: which clusters are new, what takes a restart, what a worker is handed."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest

from aion_extproc.catalog.build import build
from aion_extproc.config.schema import Settings
from aion_extproc.extproc.assignment import Assignment, Generation, dump_assignment, load_assignment
from aion_extproc.gateway.config_file import ConfigFile
from aion_extproc.gateway.generation import following, needs_restart, spec_of
from aion_extproc.gateway.spec import Upstream
from tests.support.exchanges import providers

DIRECTORY = Path("/run/aion")
A, B = "http://127.0.0.1:1001/v1", "http://127.0.0.1:1002/v1"


def settings(openai: str = A, **sections: Any) -> Settings:
    config = copy.deepcopy(providers(**sections))
    config["providers"]["openai"]["base_url"] = openai
    return Settings.model_validate(config)


def first() -> Generation:
    found = settings()
    return Generation(1, found, build(found))


def clusters(generation: Generation) -> dict[str, Upstream]:
    return {upstream.cluster: upstream for upstream in spec_of(generation, DIRECTORY).upstreams}


def test_a_cluster_keeps_its_name_as_long_as_its_address() -> None:
    one = first()
    cheaper = settings(telemetry={"batch_size": 7})
    two = following(one, cheaper, build(cheaper), clusters(one))
    assert two.number == 2
    assert clusters(two) == clusters(one)


def test_a_new_address_is_a_new_cluster_and_an_old_one_is_found_again() -> None:
    one = first()
    moved = settings(B)
    two = following(one, moved, build(moved), clusters(one))
    assert set(clusters(two)) == {"provider_openai~2", "provider_anthropic"}
    assert clusters(two)["provider_openai~2"].port == 1002
    known = clusters(one) | clusters(two)
    back = settings(A)
    three = following(two, back, build(back), known)
    assert set(clusters(three)) == {"provider_openai", "provider_anthropic"}
    # Without the first one, which Envoy may have been told to forget, its name is another address's no more.
    again = following(two, back, build(back), clusters(two))
    assert set(clusters(again)) == {"provider_openai~3", "provider_anthropic"}


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("gateway", {"port": 8090}),
        ("gateway", {"admin_port": 9999}),
        ("gateway", {"listen": "0.0.0.0"}),
        ("gateway", {"envoy_concurrency": 2}),
        ("gateway", {"usage": "ext_proc"}),
        ("gateway", {"idle_timeout": "1s"}),
        ("telemetry", {"db_path": "elsewhere.db"}),
        ("state", {"redis_url": "redis://elsewhere"}),
    ],
)
def test_keys_that_take_a_restart_are_named(section: str, key: dict[str, Any]) -> None:
    changed: dict[str, Any] = {section: key}
    assert needs_restart(settings(), settings(**changed)) == [f"{section}.{next(iter(key))}"]


def test_all_other_keys_can_change_as_it_runs() -> None:
    gateway = {"workers": 3, "json_cost": "estimate", "max_body_bytes": 4096, "connect_timeout": "1s"}
    gateway |= {"drain_delay": "1s", "drain_timeout": "2s", "worker_memory_bytes": 1 << 29}
    changed = settings(B, gateway=gateway, routing={"strategy": "fallback"}, telemetry={"batch_size": 7})
    assert needs_restart(settings(), changed) == []


def test_a_managed_server_takes_a_restart() -> None:
    config = providers()
    managed = {"model_path": "/models/a.gguf", "port": 8081}
    config["providers"]["local"] = {"managed": managed, "models": [{"id": "qwen", "tier": 1}]}
    with_it = Settings.model_validate(config)
    managed["port"] = 8082
    elsewhere = Settings.model_validate(config)
    for old, new in ((settings(), with_it), (with_it, settings()), (with_it, elsewhere)):
        assert [key for key in needs_restart(old, new) if "managed" in key] == ["providers.local.managed"]


def test_a_worker_gets_all_generations_and_their_secrets() -> None:
    one = first()
    keys = {"enabled": False, "keys": [{"key": "sk-caller", "name": "caller"}]}
    moved = settings(B, auth=keys, gateway={"workers": 2})
    two = following(one, moved, build(moved), clusters(one))
    for assignment in (Assignment(one, next=two), Assignment(two, (one,))):
        loaded = load_assignment(dump_assignment(assignment))
        assert (loaded.current.number, loaded.next and loaded.next.number) == (
            assignment.current.number,
            assignment.next and assignment.next.number,
        )
        for before, after in zip(assignment.all, loaded.all, strict=True):
            assert (after.number, after.settings, after.revisions) == (before.number, before.settings, before.revisions)
            assert after.catalog.to_json() == before.catalog.to_json()


def test_a_changed_file_is_seen_once_it_rests(tmp_path: Path) -> None:
    path = tmp_path / "aion.yaml"
    path.write_text("one")
    seen: list[str] = []

    def load(path: Path) -> Settings:
        seen.append(path.read_text())
        return settings()

    file = ConfigFile(path, load)
    file.read()
    assert not file.changed()
    path.write_text("half of")
    assert not file.changed()  # somebody may be writing
    path.write_text("half of two")
    assert not file.changed()
    assert file.changed()
    file.read()
    assert seen == ["one", "half of two"]
    assert not file.changed()


def test_a_link_that_is_swapped_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes does it with a ConfigMap: aion.yaml → ..data/aion.yaml, and ..data → a directory a version."""
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "aion.yaml").write_text("the same length")
        os.utime(tmp_path / version / "aion.yaml", (1, 1))
    (tmp_path / "..data").symlink_to("v1")
    path = tmp_path / "aion.yaml"
    path.symlink_to("..data/aion.yaml")
    file = ConfigFile(path, lambda _: settings())
    file.read()
    assert not file.changed()
    (tmp_path / "..new").symlink_to("v2")
    os.replace(tmp_path / "..new", tmp_path / "..data")
    assert not file.changed()
    assert file.changed()
