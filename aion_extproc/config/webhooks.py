"""The section webhooks of aion.yaml: who is told of events."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from aion_extproc.config.values import Secret, Section, fault

EventType = Literal["budget.warning", "budget.exhausted"]
EVENT_TYPES: tuple[EventType, ...] = ("budget.warning", "budget.exhausted")
_SECRET_BYTES = range(24, 65)  # as Standard Webhooks has it


def _url(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    import httpx  # which sends to it; not for those who have no webhooks

    try:
        parts = urlsplit(text)
        port = parts.port
        host = httpx.URL(text).host  # stricter: 0177.0.0.1 is none
    except (ValueError, httpx.InvalidURL):
        raise fault("is not a URL") from None
    if parts.scheme not in ("https", "http") or not host:
        raise fault("must be a URL such as https://hooks.example.com/aion")
    if parts.username is not None or parts.password is not None:
        raise fault("must not have a user or a password in it; the receiver knows us by the signature")
    if parts.fragment or port == 0:
        raise fault("must be a URL such as https://hooks.example.com/aion")
    return value


def _signing(value: SecretStr) -> SecretStr:
    if len(signing_key(value)) not in _SECRET_BYTES:
        raise fault("must be 24 to 64 bytes in base64, such as openssl rand -base64 32 prints them")
    return value


def signing_key(secret: SecretStr) -> bytes:
    """What is signed with; empty where the text is not base64."""
    try:
        return base64.b64decode(secret.get_secret_value().removeprefix("whsec_"), validate=True)
    except binascii.Error:
        return b""


class WebhookSettings(Section):
    """A receiver. Its URL is a secret too: many have a token in them."""

    url: Annotated[Secret, AfterValidator(_url)]
    secret: Annotated[Secret, AfterValidator(_signing)]
    events: Annotated[tuple[EventType, ...], Field(min_length=1)] = EVENT_TYPES
    allow_private: bool = False  # the receiver may be in the cluster, and without TLS

    @model_validator(mode="after")
    def _https(self) -> WebhookSettings:
        if not self.allow_private and not self.url.get_secret_value().startswith("https:"):
            raise fault("must be https; http is for receivers with allow_private: true", "url")
        return self


Webhooks = Annotated[tuple[WebhookSettings, ...], Field(max_length=8)]
