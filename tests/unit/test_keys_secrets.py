"""How tenants' keys at providers are encrypted."""

from __future__ import annotations

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.stores.secrets import Vault, VaultError, digest, hint, new_key

SECRET = "sk-proj-a-key-of-a-tenant-0123456789"
FIRST, SECOND = os.urandom(32), os.urandom(32)


def base64_of(key: bytes) -> str:
    return base64.b64encode(key).decode()


def vault(key: bytes, *old: bytes) -> Vault:
    return Vault.from_env(
        {"AION_MASTER_KEY": base64_of(key), "AION_MASTER_KEY_OLD": ", ".join(map(base64_of, old))}
    )


def test_what_is_sealed_is_opened_by_whoever_has_the_master_key() -> None:
    sealed = vault(FIRST).seal(SECRET, "acme", "openai")
    assert SECRET not in sealed
    opened = vault(FIRST).unseal(sealed, "acme", "openai")
    assert opened.get_secret_value() == SECRET
    assert SECRET not in repr(opened)
    assert vault(FIRST).seal(SECRET, "acme", "openai") != sealed  # another nonce


@pytest.mark.parametrize(("tenant", "provider"), [("acme2", "openai"), ("acme", "anthropic"), ("ac", "me\0openai")])
def test_it_opens_in_no_other_row(tenant: str, provider: str) -> None:
    sealed = vault(FIRST).seal(SECRET, "acme", "openai")
    with pytest.raises(VaultError, match="another tenant"):
        vault(FIRST).unseal(sealed, tenant, provider)


@given(at=st.integers(0), put=st.characters(min_codepoint=33, max_codepoint=126))
def test_no_character_of_it_can_be_changed(at: int, put: str) -> None:
    sealed = vault(FIRST).seal(SECRET, "acme", "openai")
    at %= len(sealed)
    changed = sealed[:at] + put + sealed[at + 1 :]
    try:
        opened = vault(FIRST).unseal(changed, "acme", "openai").get_secret_value()
    except VaultError:
        return
    assert opened == SECRET  # the same bits: base64's last character may have spare ones


def test_another_master_key_is_told_by_the_ids_of_both() -> None:
    sealed = vault(FIRST).seal(SECRET, "acme", "openai")
    with pytest.raises(VaultError) as caught:
        vault(SECOND).unseal(sealed, "acme", "openai")
    text = str(caught.value)
    assert vault(FIRST).masters[0].id in text
    assert vault(SECOND).masters[0].id in text
    assert "AION_MASTER_KEY_OLD" in text
    assert base64_of(FIRST) not in text


def test_old_master_keys_open_and_do_not_seal() -> None:
    old, new = vault(FIRST), vault(SECOND, FIRST)
    sealed = old.seal(SECRET, "acme", "openai")
    assert new.unseal(sealed, "acme", "openai").get_secret_value() == SECRET
    assert not new.is_current(sealed)
    anew = new.seal(SECRET, "acme", "openai")
    assert new.is_current(anew)
    with pytest.raises(VaultError, match="master key"):
        old.unseal(anew, "acme", "openai")


@pytest.mark.parametrize("text", [base64_of(FIRST), FIRST.hex(), FIRST.hex().upper(), f" {base64_of(FIRST)}\n"])
def test_a_master_key_is_base64_or_hex(text: str) -> None:
    assert Vault.from_env({"AION_MASTER_KEY": text}).masters[0].id == vault(FIRST).masters[0].id
    unpadded = base64.urlsafe_b64encode(FIRST).decode().rstrip("=")
    assert Vault.from_env({"AION_MASTER_KEY": unpadded}).masters[0].id == vault(FIRST).masters[0].id


@pytest.mark.parametrize(
    "weak",
    [
        "correct horse battery staple",
        base64_of(os.urandom(16)),
        os.urandom(31).hex(),
        base64_of(b"password" * 4),
        "0" * 64,
        "ключ",
    ],
)
def test_a_weak_master_key_is_refused_with_a_way_to_make_a_good_one(weak: str) -> None:
    for env in ({"AION_MASTER_KEY": weak}, {"AION_MASTER_KEY": base64_of(FIRST), "AION_MASTER_KEY_OLD": weak}):
        with pytest.raises(VaultError, match="openssl rand -base64 32") as caught:
            Vault.from_env(env).seal(SECRET, "acme", "openai")
        assert weak not in str(caught.value)


@pytest.mark.parametrize("env", [{}, {"AION_MASTER_KEY": ""}, {"AION_MASTER_KEY_OLD": base64_of(FIRST)}])
def test_without_a_master_key_nothing_is_sealed_or_opened(env: dict[str, str]) -> None:
    sealed = vault(FIRST).seal(SECRET, "acme", "openai")
    none = Vault.from_env(env)
    for use in (lambda: none.seal(SECRET, "acme", "openai"), lambda: none.unseal(sealed, "acme", "openai")):
        with pytest.raises(VaultError, match=r"AION_MASTER_KEY is not set.*openssl"):
            use()


def test_nothing_shows_a_master_key() -> None:
    shown = repr(vault(FIRST, SECOND))
    assert not any(form in shown for key in (FIRST, SECOND) for form in (base64_of(key), key.hex(), repr(key)))


def test_keys_of_callers() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == len({digest(key) for key in made}) == 100
    assert all(key.isascii() and " " not in key for key in made)
    assert hint(SECRET) == "6789"
    assert hint("short-key") == ""
