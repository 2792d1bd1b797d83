"""Secrets of the database: what callers' keys look like, and how tenants' provider keys are encrypted.

A caller's key is 256 random bits, so its SHA-256 can be stored and looked up as it is: there is nothing to guess, and
a slow hash would only slow down requests.

A provider's key must be read again, so it is sealed with AES-256-GCM. The key for that is derived (HKDF-SHA256,
RFC 5869) from AION_MASTER_KEY. Tenant and provider are associated data: a ciphertext that is copied to another row does
not open. Sealed text is `v1.<key id>.<base64 of nonce and ciphertext>`; the id tells which master key is wanted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

MASTER_KEY, OLD_MASTER_KEYS = "AION_MASTER_KEY", "AION_MASTER_KEY_OLD"
KEY_PREFIX = "sk-aion-"
_HINT_LENGTH = 4
_SHORTEST_HINTED = 16  # four characters of less would give too much away
_NONCE_BYTES = 12
_MASTER_BYTES = 32
_FEWEST_DIFFERENT = 12  # of 32 random bytes about 30 differ; fewer than 12 with a chance below 10⁻²⁰
_HOW = "make one with: openssl rand -base64 32"


class VaultError(Exception):
    """A secret that cannot be sealed or opened; the message says what to do and holds no secret."""


def new_key() -> str:
    """A key for a caller."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def digest(key: str) -> bytes:
    """What is stored of a caller's key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def hint(secret: str) -> str:
    """Its last characters, by which a person tells it from others; nothing of a short one."""
    return secret[-_HINT_LENGTH:] if len(secret) >= _SHORTEST_HINTED else ""


@dataclass(frozen=True, slots=True)
class _Master:
    id: str
    cipher: AESGCM = field(repr=False)


@dataclass(frozen=True, slots=True)
class Vault:
    """Seals with the first master key, opens with any. Without one, `problem` says why there is none."""

    masters: tuple[_Master, ...] = ()
    problem: str = f"{MASTER_KEY} is not set, so keys of providers cannot be stored; {_HOW}"

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Vault:
        """With AION_MASTER_KEY and what is in AION_MASTER_KEY_OLD, between commas."""
        named = [(MASTER_KEY, env.get(MASTER_KEY, ""))]
        named += [(OLD_MASTER_KEYS, text) for text in env.get(OLD_MASTER_KEYS, "").split(",")]
        named = [(name, text.strip()) for name, text in named if text.strip()]
        if not named or named[0][0] != MASTER_KEY:
            return cls()
        try:
            return cls(tuple(_master(name, text) for name, text in named), "")
        except VaultError as error:
            return cls((), str(error))

    def seal(self, secret: str, tenant: str, provider: str) -> str:
        """VaultError: there is no master key."""
        if not self.masters:
            raise VaultError(self.problem)
        master, nonce = self.masters[0], os.urandom(_NONCE_BYTES)
        sealed = master.cipher.encrypt(nonce, secret.encode(), _belongs_to(tenant, provider))
        return f"v1.{master.id}.{base64.b64encode(nonce + sealed).decode()}"

    def unseal(self, sealed: str, tenant: str, provider: str) -> SecretStr:
        """VaultError: it was sealed with another master key, for somebody else, or was changed."""
        version, _, rest = sealed.partition(".")
        wanted, _, text = rest.partition(".")
        if version != "v1":
            raise VaultError("it was written by a newer version of aion")
        if not self.masters:
            raise VaultError(self.problem)
        master = next((one for one in self.masters if one.id == wanted), None)
        if master is None:
            raise VaultError(
                f"it was sealed with the master key {wanted}, and {MASTER_KEY} is {self.masters[0].id}; "
                f"put the other one into {OLD_MASTER_KEYS}"
            )
        try:
            data = base64.b64decode(text, validate=True)
            plain = master.cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _belongs_to(tenant, provider))
        except (InvalidTag, ValueError):
            raise VaultError("it was changed, or sealed for another tenant or provider; store it again") from None
        return SecretStr(plain.decode())

    def is_current(self, sealed: str) -> bool:
        """Whether the first master key sealed it."""
        return bool(self.masters) and sealed.startswith(f"v1.{self.masters[0].id}.")


def _belongs_to(tenant: str, provider: str) -> bytes:
    return f"{tenant}\0{provider}".encode()  # no name has a NUL


def _master(name: str, text: str) -> _Master:
    key = _decoded(text)
    if key is None or len(key) != _MASTER_BYTES:
        raise VaultError(f"{name} must be 32 bytes in base64 or hex, and is not; {_HOW}")
    if len(set(key)) < _FEWEST_DIFFERENT:
        raise VaultError(f"{name} is not random; {_HOW}")
    return _Master(_derived(key, b"aion master key id", 4).hex(), AESGCM(_derived(key, b"aion provider keys", 32)))


def _derived(key: bytes, purpose: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=purpose).derive(key)


def _decoded(text: str) -> bytes | None:
    if re.fullmatch(r"[0-9A-Fa-f]{64}", text):
        return bytes.fromhex(text)
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
