"""A real PostgreSQL, started by the tests in a directory of its own, that can be killed and started again."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.support.gateway import free_ports, wait_for

USER = "aion"
PASSWORD = "pg-password-that-no-log-may-have"


class Postgres:
    """One server, which answers on a TCP port of its own. `kill` is the crash of the machine's dreams: every process
    of it at once, nothing flushed."""

    def __init__(self, directory: Path, settings: Mapping[str, str]) -> None:
        self.directory = directory
        self._settings = settings
        (self.port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._programs = _programs()
        # The server refuses to be root, and its directory must belong to whom it runs as.
        self._as = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
        if self._as:
            shutil.chown(directory, "nobody", "nogroup")
        password = directory / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        options = ["-U", USER, "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--locale=C", "--no-sync"]
        command = [*self._as, str(self._programs / "initdb"), "-D", str(directory / "data"), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=directory)
        self.start()

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Returns when it answers; after `kill` it recovers first."""
        settings = {"unix_socket_directories": "", "listen_addresses": "127.0.0.1", **self._settings}
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._as, self._programs / "postgres", "-D", self.directory / "data", "-p", str(self.port), *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
            )
        wait_for(self._answers)

    def kill(self) -> None:
        """SIGKILL for all of its processes."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        wait_for(lambda: not any(_alive(int(pid)) for pid in children))
        (self.directory / "data" / "postmaster.pid").unlink(missing_ok=True)

    def freeze(self) -> None:
        """Nobody answers, and no connection breaks."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def ensure(self) -> None:
        """That it runs, whatever the last test has left behind."""
        if self._process is None or self._process.poll() is not None:
            self.start()
        self.thaw()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "log").read_text()
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    @contextmanager
    def database(self, options: str = "") -> Iterator[str]:
        """The URL of a new and empty database, dropped at the end. `options`: of CREATE DATABASE."""
        name = f"t{uuid.uuid4().hex}"
        self._run(f"CREATE DATABASE {name} {options}")
        try:
            yield self.url(name)
        finally:
            self.ensure()
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())


# Durable but for the machine's own crash: a commit is in the kernel's hands before it is told.
QUICK = {"fsync": "off"}


@contextmanager
def postgres(settings: Mapping[str, str] = QUICK) -> Iterator[Postgres]:
    """One for as long as it is needed. `settings`: of its own configuration."""
    directory = Path(tempfile.mkdtemp(prefix="aion-postgres-"))
    directory.chmod(0o755)
    server = None
    try:
        server = Postgres(directory, settings)
        yield server
    finally:
        try:
            if server is not None:
                server.stop()
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        return not re.search(r"\) [ZX] ", Path(f"/proc/{pid}/stat").read_text())
    except OSError:
        return False


def _programs() -> Path:
    """Where initdb and postgres are; Debian keeps them out of PATH."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    if on_path:
        found.append(Path(on_path).resolve().parent)
    assert found, "PostgreSQL's server is not installed: apt-get install postgresql"
    return max(found)
