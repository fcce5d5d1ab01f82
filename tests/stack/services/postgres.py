"""The test database: a PostgreSQL cluster of its own with TLS, made anew by `initdb`."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from .ports import LOOPBACK
from .process import Failed, Process, start_time

USER = "loader"
PASSWORD = "rows-for-the-table"
DATABASE = "pressline"

# Linux takes socket paths of up to 107 bytes.
_LONGEST_SOCKET = 107

_SETTINGS = """
# The second one is not in the certificate: for tests of its name.
listen_addresses = '{loopback}, 127.0.0.2'
port = {port}
unix_socket_directories = '{sockets}'
max_connections = 100
fsync = on
wal_level = logical
password_encryption = 'scram-sha-256'
ssl = on
ssl_cert_file = 'server.cert'
ssl_key_file = 'server.key'
ssl_ca_file = 'ca.pem'
log_line_prefix = '%m [%p] '
"""

# A test makes the role `certified`, which needs a client certificate beside its password.
_ACCESS = """
local all all scram-sha-256
hostssl all certified 127.0.0.0/8 scram-sha-256 clientcert=verify-ca
hostnossl all certified 127.0.0.0/8 reject
host all all 127.0.0.0/8 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
"""


class Postgres(Process):
    """The server process and its backends; data lies in `folder/postgres`.

    SIGTERM is a fast shutdown. The other signals reach the backends too, each of which leads a group of its own.
    """

    PORTS = ["postgres_port"]

    def __init__(self, folder, ports):
        super().__init__(folder, "postgres")
        self._data = folder / "postgres"
        self._tls = folder / "tls"
        self._port = ports["postgres_port"]

    def create(self):
        """Makes an empty cluster with the role and the database."""
        self._data.mkdir(parents=True)
        # PostgreSQL takes a password only from a file.
        password = self._data.with_suffix(".password")
        password.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (self._data, password):
                shutil.chown(path, _ordinary_user())
        try:
            options = ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"]
            self._prepare("initdb", *options, f"--username={USER}", f"--pwfile={password}", f"--pgdata={self._data}")
        finally:
            password.unlink()
        self._configure()
        self._prepare("postgres", "--single", "-D", self._data, "postgres", commands=f"CREATE DATABASE {DATABASE}\n")

    def launch(self):
        """Starts the server on the data it has."""
        # A server that was killed stays a zombie until the `run` that started it ends. By its lock files the
        # new one would take it for alive; `send` has seen to it that none of its processes is.
        for lock in (self._data / "postmaster.pid", *self._data.glob(".s.PGSQL.*")):
            lock.unlink(missing_ok=True)
        self.start(as_ordinary_user(_program("postgres"), "-D", self._data))

    def await_ready(self):
        """Returns when the server takes connections."""
        self.wait_until(lambda: self.has_logged("database system is ready to accept connections"))

    def environment(self):
        """What tests need to know."""
        return {
            "PRESSLINE_TEST_POSTGRES": f"{LOOPBACK}:{self._port}",
            "PRESSLINE_TEST_POSTGRES_USER": USER,
            "PRESSLINE_TEST_POSTGRES_PASSWORD": PASSWORD,
            "PRESSLINE_TEST_POSTGRES_DATABASE": DATABASE,
        }

    def send(self, number):
        """Sends a signal to the server and its backends; false when it does not run."""
        server = self.pid()
        if server is None:
            return False
        if number == signal.SIGTERM:
            return super().send(signal.SIGINT)  # SIGTERM itself would wait until the last client leaves
        if number == signal.SIGCONT:
            backends = _children(server)
        else:
            super().send(signal.SIGSTOP)  # so that it starts no further backend meanwhile
            backends = _children(server)
        for backend in backends:
            with suppress(ProcessLookupError):
                os.kill(backend, number)
        super().send(number)
        if number == signal.SIGKILL:
            # A new server refuses to start while a backend still holds the old shared memory.
            _await_gone(backends)
        return True

    def _configure(self):
        sockets = self._data if len(bytes(self._data / f".s.PGSQL.{self._port}")) <= _LONGEST_SOCKET else ""
        with open(self._data / "postgresql.conf", "a") as settings:
            settings.write(_SETTINGS.format(loopback=LOOPBACK, port=self._port, sockets=sockets))
        (self._data / "pg_hba.conf").write_text(_ACCESS)
        for name in ("server.cert", "server.key", "ca.pem"):
            shutil.copy(self._tls / name, self._data)
            (self._data / name).chmod(0o600)
            if os.geteuid() == 0:
                shutil.chown(self._data / name, _ordinary_user())

    def _prepare(self, program, *arguments, commands=""):
        done = subprocess.run(
            as_ordinary_user(_program(program), *arguments),
            input=commands,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            raise Failed(f"postgres: {program} failed with exit code {done.returncode}:\n{done.stdout}")


def _program(name):
    """The path of a program of the newest server found; Debian keeps them off the PATH."""

    def version(path):
        return int(path.parts[4]) if path.parts[4].isdigit() else 0

    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=version)
    found = installed[-1] if installed else shutil.which(name)
    if not found:
        places = "/usr/lib/postgresql/*/bin nor on the PATH"
        raise Failed(f"postgres: no {name} in {places}; run tests/stack/prerequisites.sh")
    return found


def as_ordinary_user(*command):
    """The command as root has to run it: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return list(command)
    user = _ordinary_user()
    # The one right of root that is kept lets it reach a checkout below a private home folder.
    rights = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return ["setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups", *rights, *command]


def _ordinary_user():
    """The account that Debian's package makes, else the one every system has."""
    names = {account.pw_name for account in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _children(parent):
    """The ids of the processes that `parent` started and that still live."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            # State and parent follow the command's name, which stands in brackets and may hold spaces.
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(status.parent.name))
    return found


def _await_gone(processes, patience=10):
    deadline = time.monotonic() + patience
    while any(start_time(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(0.02)
