"""The API process: `python -m aion_extproc.api.server --socket PATH --state PATH`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from aion_extproc.api.app import Deps, create_app
from aion_extproc.api.serving import serve
from aion_extproc.api.state import StateError, read_state
from aion_extproc.stores.ledger import Ledger, LedgerError


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="aion-api", description="aion's HTTP API on a Unix socket")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True, help="JSON written by the supervisor")
    options = parser.parse_args(arguments)
    try:
        state = read_state(options.state)
        ledger = Ledger(state.db_path)
    except (StateError, LedgerError) as error:
        sys.exit(f"aion-api: {error}")
    try:
        serve(create_app(Deps(state, ledger)), socket=options.socket)
    finally:
        ledger.close()


if __name__ == "__main__":
    main()
