"""PgBouncer in front of the test database: one port, a database for each way of pooling."""

import os
import shutil
from pathlib import Path

from .ports import LOOPBACK
from .postgres import DATABASE, PASSWORD, USER, as_ordinary_user
from .process import Failed, Process

# Two server connections for all clients: each transaction soon runs on another client's.
_SETTINGS = """
[databases]
transaction = {server} pool_mode=transaction pool_size=2
shared = {server} pool_mode=transaction pool_size=2
names = {server} pool_mode=transaction pool_size=2
session = {server} pool_mode=session pool_size=20
statement = {server} pool_mode=statement pool_size=2

[pgbouncer]
listen_addr = {loopback}
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
max_client_conn = 100
"""


class PgBouncer(Process):
    """The pooler. It is started on demand (`stack.py restart pgbouncer`), by the tests that need it."""

    PORTS = ["pgbouncer_port"]

    def __init__(self, folder, ports):
        super().__init__(folder, "pgbouncer")
        self._folder = folder / "pgbouncer"
        self._port = ports["pgbouncer_port"]
        self._server = f"host={LOOPBACK} port={ports['postgres_port']} dbname={DATABASE}"

    def create(self):
        """Writes its settings."""
        self._folder.mkdir(parents=True, exist_ok=True)
        users = self._folder / "users.txt"
        users.write_text(f'"{USER}" "{PASSWORD}"\n')
        users.chmod(0o600)
        self._settings().write_text(
            _SETTINGS.format(server=self._server, loopback=LOOPBACK, port=self._port, users=users)
        )

    def launch(self):
        """Starts the pooler."""
        # It refuses root, as the server does.
        self.start(as_ordinary_user(_program(), self._settings()))

    def await_ready(self):
        """Returns when the pooler takes connections."""
        self.wait_until(lambda: self.has_logged("process up"))

    def environment(self):
        """What tests need to know."""
        return {"PRESSLINE_TEST_PGBOUNCER": f"{LOOPBACK}:{self._port}"}

    def _settings(self):
        return self._folder / "pgbouncer.ini"


def _program():
    """Debian keeps it where only root looks."""
    found = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if not found:
        raise Failed("pgbouncer: not found on the PATH nor in /usr/sbin; run tests/stack/prerequisites.sh")
    return Path(found)
