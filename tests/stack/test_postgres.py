"""What the other tests take for granted of the PostgreSQL they talk to.

tests/stack/stack.py run -- sh -c '"$PRESSLINE_TEST_PYTHON" tests/stack/test_postgres.py'
"""

import os
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path

import psycopg

HERE = Path(__file__).resolve().parent
HOST, PORT = os.environ["PRESSLINE_TEST_POSTGRES"].split(":")
AUTHORITY = Path(os.environ["PRESSLINE_TEST_TLS_DIR"]) / "ca.pem"


def connect(**changes):
    """A connection with autocommit."""
    options = {
        "host": HOST,
        "port": PORT,
        "user": os.environ["PRESSLINE_TEST_POSTGRES_USER"],
        "password": os.environ["PRESSLINE_TEST_POSTGRES_PASSWORD"],
        "dbname": os.environ["PRESSLINE_TEST_POSTGRES_DATABASE"],
        "connect_timeout": 10,
    }
    return psycopg.connect(**options | changes, autocommit=True)


def stack(*words):
    subprocess.run([sys.executable, HERE / "stack.py", *words], check=True)


class Postgres(unittest.TestCase):
    """The service `postgres` of the stack."""

    def test_settings(self):
        with connect() as database:
            for name, value in {
                "fsync": "on",
                "wal_level": "logical",
                "max_connections": "100",
                "password_encryption": "scram-sha-256",
                "listen_addresses": "127.0.0.1, 127.0.0.2",
                "server_encoding": "UTF8",
            }.items():
                self.assertEqual(value, database.execute(f"SHOW {name}").fetchone()[0], name)

    def test_a_password_is_needed(self):
        for wrong in ({"password": "x"}, {"user": "x"}):
            with self.assertRaises(psycopg.OperationalError):
                connect(**wrong)

    def test_tls_with_and_without_trust(self):
        with connect(sslmode="verify-full", sslrootcert=AUTHORITY) as database:
            ssl = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            self.assertTrue(database.execute(ssl).fetchone()[0])
        with self.assertRaises(psycopg.OperationalError):
            connect(sslmode="verify-full", sslrootcert=AUTHORITY.with_name("stranger-ca.pem"))
        connect(sslmode="disable").close()

    def test_kill_9_ends_every_backend_and_keeps_what_was_committed(self):
        with connect() as database:
            database.execute("DROP TABLE IF EXISTS kept")
            database.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000)")
        busy, open_ended = connect(), connect()
        self.addCleanup(busy.close)
        self.addCleanup(open_ended.close)
        open_ended.execute("BEGIN; INSERT INTO kept VALUES (0)")
        lost = []

        def work():
            try:
                busy.execute("SELECT sum(n) FROM generate_series(1, 10000000000) AS n")
            except psycopg.OperationalError as error:
                lost.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        time.sleep(0.3)
        stack("restart", "postgres")
        worker.join(timeout=5)
        self.assertEqual(1, len(lost))
        with connect() as database:
            self.assertEqual((1000,), database.execute("SELECT count(*) FROM kept").fetchone())

    def test_stop_holds_backends_too(self):
        with connect() as database:
            stack("kill", "postgres", "-STOP")
            resume = threading.Timer(1, stack, ("kill", "postgres", "-CONT"))
            resume.start()
            begun = time.monotonic()
            database.execute("SELECT 1")
            self.assertGreater(time.monotonic() - begun, 0.8)
            resume.join()


if __name__ == "__main__":
    unittest.main()
