"""The checker of the tables itself, with faults planted in real ones, and the links:

    tests/stack/stack.py run -- python3 -m tests.harness.test_tables
"""

import json
import socket
import threading
import time
import unittest

from tests.harness import interpreter

interpreter.require_packages()

from tests.harness.link import Link  # noqa: E402
from tests.harness.load_world import LoadWorld  # noqa: E402
from tests.harness.rows import FIELDS  # noqa: E402

SENT = {0: 300, 1: 200, 2: 150, 3: 100}
COLUMNS = ", ".join(f'"{name}"' for name in FIELDS)


def fill_postgres(world, rows):
    """What a sound load leaves."""
    table = world.tables["postgres"]
    with table.connect() as own, own.cursor() as cursor:
        marks = ["to_timestamp(0) + %s * interval '1 microsecond'" if n == "timestamp" else "%s" for n in FIELDS]
        marks[FIELDS.index("action")] = f"%s::{table.schema}.button_action"
        marks[FIELDS.index("session_id")] = "%s::uuid"
        sql = f"INSERT INTO {table.table} ({COLUMNS}) VALUES ({', '.join(marks)})"
        cursor.executemany(sql, [[fields[name] for name in FIELDS] for _, fields in rows])


def fill_clickhouse(world, rows):
    table = world.tables["clickhouse"]
    lines = [
        json.dumps(
            [f"{v // 10**6}.{v % 10**6:06}" if n == "timestamp" else v for n, v in fields.items()]
            + [world.out, *where]
        )
        for where, fields in rows
    ]
    own = "_topic, _partition, _offset"
    table.run_sql(f"INSERT INTO {table.table} ({COLUMNS}, {own}) FORMAT JSONCompactEachRow\n" + "\n".join(lines))


class Planted(unittest.TestCase):
    def setUp(self):
        self.world = LoadWorld("planted", dense=True)
        for table in self.world.tables.values():
            table.make()
            self.addCleanup(table.drop)
        where = [(p, s) for p, count in SENT.items() for s in range(count)]
        bad = [w for w in where if self.world.is_bad(*w)]
        self.letters = {(sink, *w) for sink in self.world.tables for w in bad}
        self.assertGreater(len(bad), 3)
        sound = [(w, self.world.rows.fields(*w)) for w in where if w not in bad]
        fill_postgres(self.world, sound)
        fill_clickhouse(self.world, sound)

    def verdict(self, database, letters=None):
        letters = self.letters if letters is None else letters
        return self.world._judge(self.world.tables[database], SENT, letters)

    def test_sound(self):
        for database, table in self.world.tables.items():
            found = self.verdict(database)
            self.assertTrue(found.sound, found)
            self.assertEqual((found.inputs, found.written + found.dead), (750, 750))
            self.assertEqual(table.newest(), {p: count - 1 for p, count in SENT.items()})

    def test_what_is_lost_doubled_or_wrong_is_seen(self):
        table = self.world.tables["postgres"].table
        one = f"ctid = (SELECT ctid FROM {table} WHERE accuracy_km > 7 ORDER BY session_id LIMIT 1)"
        # tableoid too: rows of two partitions may have the same ctid.
        only = f"tableoid = (SELECT tableoid FROM {table} WHERE accuracy_km > 7 ORDER BY session_id LIMIT 1) AND {one}"
        run = self.world.tables["postgres"].run_sql
        for sql, seen in (
            (f"UPDATE {table} SET \"timestamp\" = \"timestamp\" + interval '1 microsecond' WHERE {only}", "wrong"),
            (f"DELETE FROM {table} WHERE {only}", "lost"),
            (f"INSERT INTO {table} SELECT * FROM {table} WHERE {only}", "doubled"),
        ):
            before = self.verdict("postgres")
            run(sql)
            after = self.verdict("postgres")
            self.assertGreater(getattr(after, seen), getattr(before, seen), sql)
            self.assertFalse(after.sound)
        clickhouse = self.world.tables["clickhouse"]
        clickhouse.run_sql(f"INSERT INTO {clickhouse.table} SELECT * FROM {clickhouse.table} LIMIT 3")
        self.assertEqual(self.verdict("clickhouse").doubled, 3)
        clickhouse.run_sql(f"ALTER TABLE {clickhouse.table} DELETE WHERE _offset = 7 SETTINGS mutations_sync = 2")
        self.assertEqual(self.verdict("clickhouse").lost, 4)

    def test_a_row_under_the_coordinates_of_another_is_seen(self):
        clickhouse = self.world.tables["clickhouse"]
        clickhouse.run_sql(
            f"INSERT INTO {clickhouse.table} SELECT * REPLACE (_offset + 1 AS _offset, generateUUIDv4() AS session_id) "
            f"FROM {clickhouse.table} WHERE _offset = 7 AND _partition = 0"
        )
        found = self.verdict("clickhouse")
        self.assertEqual((found.doubled, found.wrong, found.sound), (1, 1, False))

    def test_a_letter_that_is_missing_or_of_a_written_row_is_seen(self):
        for database in self.world.tables:
            own = sorted(letter for letter in self.letters if letter[0] == database)
            self.assertEqual(self.verdict(database, self.letters - {own[0]}).lost, 1)
            self.assertEqual(self.verdict(database, self.letters | {(database, 0, 0)}).doubled, 1)


class Links(unittest.TestCase):
    """Against a server that answers each line with it."""

    def setUp(self):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.server.close)
        threading.Thread(target=self.serve, daemon=True).start()
        self.heard = []
        self.link = Link(f"127.0.0.1:{self.server.getsockname()[1]}")
        self.addCleanup(self.link.close)

    def serve(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(client,), daemon=True).start()

    def answer(self, client):
        try:
            while data := client.recv(100):
                self.heard.append(data)
                client.sendall(data)
        except OSError:
            pass

    def client(self):
        client = socket.create_connection(("127.0.0.1", self.link.port), 5)
        self.addCleanup(client.close)
        return client

    def await_that(self, holds):
        deadline = time.monotonic() + 10
        while not holds():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_what_is_held_arrives_late_also_of_a_client_that_is_gone(self):
        client = self.client()
        client.sendall(b"one")
        self.assertEqual(client.recv(10), b"one")
        self.link.hold()
        client.sendall(b"two")
        self.await_that(lambda: self.link.held == 3)
        client.close()
        self.assertEqual(self.heard, [b"one"])
        self.link.release()
        self.await_that(lambda: self.heard == [b"one", b"two"])

    def test_an_answer_is_lost_after_its_request_was_heard(self):
        client = self.client()
        self.link.lose_answer(b"COMMIT")
        client.sendall(b"x")
        self.assertEqual(client.recv(10), b"x")
        client.sendall(b"a; COMMIT")
        with self.assertRaises(ConnectionError):
            if client.recv(10) == b"":
                raise ConnectionError
        self.assertTrue(self.link.trapped.wait(5))
        self.assertEqual(self.heard[-1], b"a; COMMIT")

    def test_cut_and_restored(self):
        client = self.client()
        client.sendall(b"x")
        self.assertEqual(client.recv(10), b"x")
        self.link.cut()
        with self.assertRaises(ConnectionError):
            if client.recv(10) == b"":
                raise ConnectionError
        with self.assertRaises(ConnectionError):
            self.client()
        self.link.restore()
        again = self.client()
        again.sendall(b"y")
        self.assertEqual(again.recv(10), b"y")


if __name__ == "__main__":
    unittest.main()
