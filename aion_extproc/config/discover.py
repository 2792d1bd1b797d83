"""A configuration for those who wrote none: keys in the environment, local servers, else the demo."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import httpx

from aion_extproc.config.schema import Settings
from aion_extproc.providers import ALL, KINDS, Kind, demo

# Both for connecting and for each read: a server on this machine answers its model list in far less, and a
# start must not wait for something else that happens to listen there.
PROBE_TIMEOUT = 0.3
MOST_MODELS = 20  # of one local server; Ollama lists everything ever pulled, the newest first

LOCAL_PORTS: Mapping[str, int] = MappingProxyType({"llama.cpp": 8081, "ollama": 11434, "vllm": 8000})


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found: the settings made of it, and (where, what) in words for the start-up table."""

    settings: Settings
    found: tuple[tuple[str, str], ...]

    @property
    def demo(self) -> bool:
        """Whether nothing was found and the demo stands in."""
        return demo.KIND.name in self.settings.providers


def discover(
    env: Mapping[str, str],
    demo_base_url: str,
    ports: Mapping[str, int] = LOCAL_PORTS,
    host: str = "127.0.0.1",
) -> Discovery:
    """Look for provider keys in `env` and for servers at `ports` (kind → port; leave one out to skip it).

    Local models are tier 1 only. A paid provider brings its kind's default models. `demo_base_url` is where
    the caller serves the demo; it is used only if nothing else is there. Takes a second at most, and never
    raises.
    """
    providers: dict[str, Any] = {}
    found: list[tuple[str, str]] = []
    with ThreadPoolExecutor(max(1, len(ports))) as pool:
        probes = {
            kind: pool.submit(_probe, kind, f"http://{host}:{ports[kind]}") for kind in LOCAL_PORTS if kind in ports
        }
    for kind, probe in probes.items():
        if models := probe.result():
            base_url = f"http://{host}:{ports[kind]}/v1"
            providers[kind] = {"kind": kind, "base_url": base_url, "models": models}
            found.append((f"{kind} at {host}:{ports[kind]}", _counted(models)))
    for known in ALL:
        variable = next((name for name in known.api_key_env if _usable_key(env.get(name, ""))), None)
        place = _place(known, env)
        if variable is not None and place is not None and known.default_models:
            models = [{"id": model.id, "tier": model.tier} for model in known.default_models]
            key = env[variable].strip()
            providers[known.name] = {"kind": known.name, "api_key": key, "models": models, **place}
            found.append((f"{variable} in the environment", _counted(models)))
    if not providers:
        models = [{"id": model.id, "tier": model.tier} for model in demo.KIND.default_models]
        providers["demo"] = {"kind": "demo", "base_url": demo_base_url, "models": models}
    return Discovery(Settings.model_validate({"providers": providers}), tuple(found))


def _place(kind: Kind, env: Mapping[str, str]) -> dict[str, str] | None:
    """The region and the like that the kind's address needs; None: the environment does not say."""
    found = {}
    for key in kind.place:
        values = (env.get(name, "").strip() for name in kind.place_env.get(key, ()))
        value = next((value for value in values if re.fullmatch(r"[a-z0-9-]{1,63}", value)), None)
        if value is None:
            return None
        found[key] = value
    return found


def _counted(models: list[dict[str, Any]]) -> str:
    names = ", ".join(model["id"] for model in models[:3])
    return names if len(models) <= 3 else f"{names} and {len(models) - 3} more"


def _usable_key(value: str) -> bool:
    # Tools that want no key are given an empty one, or spaces.
    return re.fullmatch(r"[!-~]+", value.strip()) is not None


def _probe(kind: str, origin: str) -> list[dict[str, Any]]:
    """The chat models of a server; none if nobody is there or it is something else."""
    try:
        with httpx.Client(base_url=origin, timeout=PROBE_TIMEOUT, trust_env=False) as client:
            models = _LISTS[kind](client)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, TypeError, KeyError, AttributeError):
        return []
    usable = [model for model in models if re.fullmatch(r"[!-~]{1,256}", str(model["id"]))]
    return [{**model, "tier": 1} for model in usable[:MOST_MODELS]]


def _get(client: httpx.Client, path: str) -> Any:
    return client.get(path).raise_for_status().json()


def _llama_cpp(client: httpx.Client) -> list[dict[str, Any]]:
    # /v1/models says what window the model was trained for; what the server was started with is in /props.
    models = [{"id": entry["id"]} for entry in _get(client, "/v1/models")["data"]]
    try:
        window = int(_get(client, "/props")["default_generation_settings"]["n_ctx"])
    except (httpx.HTTPError, ValueError, TypeError, KeyError):
        return models
    return [{**model, "context_window": window} for model in models] if window > 0 else models


def _ollama(client: httpx.Client) -> list[dict[str, Any]]:
    return [
        {"id": entry["name"]}
        for entry in _get(client, "/api/tags")["models"]
        # Embedding models cannot chat.
        if "embed" not in entry["name"] and "bert" not in str((entry.get("details") or {}).get("family"))
    ]


def _vllm(client: httpx.Client) -> list[dict[str, Any]]:
    return [
        {"id": entry["id"], "context_window": window}
        if isinstance(window := entry.get("max_model_len"), int) and window > 0
        else {"id": entry["id"]}
        for entry in _get(client, "/v1/models")["data"]
    ]


_LISTS: Mapping[str, Callable[[httpx.Client], list[dict[str, Any]]]] = {
    "llama.cpp": _llama_cpp,
    "ollama": _ollama,
    "vllm": _vllm,
}
assert all(KINDS[kind].local for kind in _LISTS)
