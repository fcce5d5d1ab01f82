"""What a person takes for granted of `stack.py up`: a second one changes nothing, what died comes back on its data.

python3 tests/stack/test_up.py
"""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import stack
from services import ports

STACK = Path(__file__).resolve().parent / "stack.py"


class Up(unittest.TestCase):
    """One set of services, in a folder of its own."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.addClassCleanup(cls.call, "down")
        cls.call("up", check=True)

    @classmethod
    def call(cls, *words, check=False):
        """`stack.py` with these words."""
        environment = os.environ | {"PRESSLINE_STACK_FOLDER": cls.folder.name}
        for name in ("PRESSLINE_TEST_BOOTSTRAP", "PRESSLINE_TEST_REGISTRY"):
            environment.pop(name, None)
        return subprocess.run([sys.executable, STACK, *words], env=environment, capture_output=True, text=True, check=check)

    def test_a_second_up_changes_nothing(self):
        """Same processes at the same addresses."""
        before = self.call("env").stdout
        again = self.call("up")
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertIn("is running already; nothing was changed", again.stderr)
        self.assertIn("kafka       127.0.0.1:", again.stdout)
        self.assertEqual(self.call("env").stdout, before)

    def test_what_died_is_started_on_its_data(self):
        """PostgreSQL keeps a table over its death."""
        self.sql("CREATE TABLE kept (n int)")
        self.call("kill", "postgres", check=True)
        again = self.call("up")
        self.assertIn("starting again on its data: postgres", again.stderr)
        self.sql("SELECT n FROM kept")

    def test_run_leaves_it_alone(self):
        """`run` would empty the folder."""
        refused = self.call("run", "--", "true")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("make stack-down", refused.stderr)

    def sql(self, statement):
        """Runs it as the tests' user."""
        names = dict(line.removeprefix("export ").split("=", 1) for line in self.call("env").stdout.splitlines())
        host, port = names["PRESSLINE_TEST_POSTGRES"].split(":")
        user, password = names["PRESSLINE_TEST_POSTGRES_USER"], names["PRESSLINE_TEST_POSTGRES_PASSWORD"]
        database = names["PRESSLINE_TEST_POSTGRES_DATABASE"]
        command = ["psql", "-X", "-h", host, "-p", port, "-U", user, "-d", database, "-c", statement]
        subprocess.run(command, env=os.environ | {"PGPASSWORD": password}, check=True, capture_output=True)


class Ports(unittest.TestCase):
    """Which ports are taken."""

    def test_the_wanted_one_where_it_is_free(self):
        """Else another."""
        [free] = ports.free(["one"]).values()
        self.assertEqual(ports.free(["one", "two"], {"one": free})["one"], free)
        with ports.socket.create_server((ports.LOOPBACK, free)):
            self.assertNotEqual(ports.free(["one"], {"one": free})["one"], free)

    def test_every_name_has_one(self):
        """For people's services too."""
        names = [name for service in (stack.SERVICES | stack.FOR_PEOPLE).values() for name in service.PORTS]
        found = ports.free(names, stack.USUAL_PORTS)
        self.assertEqual(sorted(found), sorted(names))
        self.assertEqual(len(set(found.values())), len(names))


if __name__ == "__main__":
    unittest.main()
