"""Webhooks of budgets through the whole gateway."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from tests.gateway.test_budgets import ask, code, key, metered
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running, wait_for
from tests.support.upstream import Answer, Received, Upstream

SIGNING = os.urandom(32)
TOKEN = "a-token-in-the-url"


def events(receiver: Upstream) -> list[dict[str, Any]]:
    for one in receiver.received:
        check(one)
    return [json.loads(one.body) for one in receiver.received]


def check(received: Received) -> None:
    """As a receiver does it, by Standard Webhooks."""
    id, at = received.header("webhook-id"), received.header("webhook-timestamp")
    assert at is not None
    assert abs(time.time() - int(at)) < 300
    signed = f"{id}.{at}.".encode() + received.body
    wanted = base64.b64encode(hmac.new(SIGNING, signed, hashlib.sha256).digest()).decode()
    assert received.header("webhook-signature") == f"v1,{wanted}"


def test_each_threshold_is_told_once(tmp_path: Path) -> None:
    """$0.02 a day: three requests of $0.004, and a fourth cannot be held. Four workers, and the ledger's process is
    killed meanwhile."""
    failed: list[Received] = []

    def once_not(received: Received) -> Answer:
        if not failed:
            failed.append(received)
            return Answer(status=500)
        return Answer(status=204, chunks=[b""])

    with Upstream(once_not) as receiver, Upstream(metered) as upstream:
        webhook = {
            "url": f"http://127.0.0.1:{receiver.port}/hook?token={TOKEN}",
            "secret": base64.b64encode(SIGNING).decode(),
            "allow_private": True,
        }
        budget = {"daily_limit_usd": "0.02", "warn_at": [15, 50, 100]}
        config = two_providers(
            upstream, auth={"keys": [key("dev", budget=budget)]}, gateway={"workers": 4}, webhooks=[webhook]
        )
        with running(tmp_path, config) as gateway:
            large(gateway)
            wait_for(lambda: len(receiver.received) == 2)  # refused once, and sent again
            (ledger,) = gateway.children("aion_extproc.extproc.ledger_process")
            os.kill(ledger, signal.SIGKILL)
            large(gateway)
            large(gateway)
            wait_for(lambda: len(receiver.received) == 3)
            for _ in range(3):
                assert code(ask(gateway, "dev", model="gpt-mid", max_tokens=1000)) == (429, "budget_exceeded")
            wait_for(lambda: len(receiver.received) == 4)
            for _ in range(3):  # and no more
                answer = ask(gateway, "dev", model="gpt-mid", max_tokens=1000)
                gateway.row(answer.headers["x-request-id"])
            told = events(receiver)
            log, metrics = gateway.log, gateway.metrics()
    ids = [one["id"] for one in told]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert [(one["type"], one["data"]["percent"]) for one in told[1:]] == [
        ("budget.warning", 15),
        ("budget.warning", 50),
        ("budget.exhausted", 100),
    ]
    assert told[1]["data"] | {"began": ""} == {
        "scope": "key",
        "name": "dev",
        "period": "day",
        "began": "",
        "limit_usd": "0.020000",
        "spent_usd": "0.004006",
        "percent": 15,
    }
    assert 'aion_webhook_deliveries_total{result="retried"} 1.0' in metrics
    assert TOKEN not in log
    assert base64.b64encode(SIGNING).decode() not in log


def large(gateway: Gateway) -> None:
    answer = ask(gateway, "dev", model="gpt-mid", max_tokens=1000)
    assert answer.status_code == 200
    gateway.row(answer.headers["x-request-id"])
