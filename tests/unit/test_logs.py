"""What our logs say of an exception that nobody has thought of: never its text, nor what was in a variable."""

from __future__ import annotations

import subprocess
import sys

import pytest

SECRET = "hunter2-that-no-log-may-have"
PROGRAM = f"""
import asyncio, logging, threading, structlog
from aion_extproc import logs
logs.configure()

def breaks():
    url = "postgresql://aion:" + "{SECRET}"
    raise RuntimeError("cannot open " + url)

class Held:
    url = "{SECRET}"
    def __repr__(self):
        return self.url

async def in_a_task():
    task = asyncio.create_task(in_a_coroutine())
    await asyncio.sleep(0)
    del task

async def in_a_coroutine():
    breaks()

try:
    breaks()
except RuntimeError:
    {{}}
"""
WAYS = {
    "structlog": "structlog.get_logger().exception('it failed')",
    "logging": "logging.getLogger('library').exception('it failed')",
    "a thread": "thread = threading.Thread(target=breaks); thread.start(); thread.join()",
    "a task": "asyncio.run(in_a_task())",
    "the process": "raise",
    "of an error": "structlog.get_logger().error('it failed', exc_info=True)",
}


@pytest.mark.parametrize("way", WAYS)
def test_an_exceptions_text_is_not_logged_but_its_type_and_place(way: str) -> None:
    program = PROGRAM.format(WAYS[way])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    said = done.stdout + done.stderr
    assert SECRET not in said
    assert "RuntimeError in breaks:" in said
    assert done.returncode == (1 if way == "the process" else 0)


def test_what_the_system_says_of_a_file_is_told() -> None:
    program = "from aion_extproc import logs; logs.configure(); open('/nowhere/at/all')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "FileNotFoundError (No such file or directory: /nowhere/at/all) in" in done.stderr


def test_warnings_of_libraries_come_through_and_what_is_below_them_does_not() -> None:
    program = (
        "import logging; from aion_extproc import logs; logs.configure()\n"
        "logging.getLogger('a.b').warning('%s of %d', 'one', 2); logging.getLogger('a.b').info('quiet')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "a.b: one of 2" in done.stderr
    assert "quiet" not in done.stderr
