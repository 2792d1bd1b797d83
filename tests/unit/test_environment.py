"""What Envoy and llama-server find in their environment."""

from __future__ import annotations

from aion_extproc.config.load import loads
from aion_extproc.gateway.environment import without_master_keys, without_secrets

FILE = """
providers:
  openai: {api_key: "${OPENAI_API_KEY}", models: [{id: gpt-5.4, tier: 1}]}
auth: {admin_secret: "${ADMIN}", keys: [{key: "${KEY}", name: a}]}
tenants: {acme: {provider_keys: {openai: "${ACME}"}}}
state: {redis_url: "redis://:${REDIS_PASSWORD}@cache.us-east-1.example:6379"}
telemetry: {db_url: "postgresql://aion:a%2Fb@db/aion"}
webhooks: [{url: "https://hooks.example/${TOKEN}/end", secret: "${SIGNING}"}]
"""
SECRET = {
    "OPENAI_API_KEY": "sk-openai",
    "ADMIN": "adm",
    "KEY": "sk-caller",
    "ACME": "sk-acme",
    "REDIS_PASSWORD": "r",
    "PG_PASSWORD": "a/b",
    "TOKEN": "T0123456789",
    "SIGNING": "bWFueS1ieXRlcy1vZi1zZWNyZXQtdG8tc2lnbi13aXRo",
}
MASTERS = {"AION_MASTER_KEY": "m", "AION_MASTER_KEY_OLD": "n"}
KEPT = {
    "PATH": "/usr/bin",
    "AWS_REGION": "us-east-1",
    "AWS_SECRET_ACCESS_KEY": "sk-openai",
    "GOOGLE_APPLICATION_CREDENTIALS": "/x",
    "EMPTY": "",
    "SHORT": "aion",  # is in a secret, as a user's name
}


def test_what_a_secret_came_from_is_left_out_and_nothing_else() -> None:
    env = SECRET | MASTERS | KEPT
    assert without_secrets(loads(FILE, "aion.yaml", env), env) == KEPT


def test_without_a_configuration_the_master_keys_are() -> None:
    assert without_master_keys(SECRET | MASTERS | KEPT) == SECRET | KEPT
