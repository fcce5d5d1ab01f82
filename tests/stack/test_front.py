"""What the other tests take for granted of the ClickHouse they talk to.

tests/stack/stack.py run -- sh -c '"$PRESSLINE_TEST_CLICKHOUSE_PYTHON" tests/stack/test_front.py'
"""

import base64
import gzip
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import time
import unittest
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import clickhouse_blocks

HERE = Path(__file__).resolve().parent
FOLDER = Path(os.environ["PRESSLINE_TEST_STACK"]).parent
ADDRESS = urlsplit(os.environ["PRESSLINE_TEST_CLICKHOUSE"]).netloc
USER = os.environ["PRESSLINE_TEST_CLICKHOUSE_USER"]
PASSWORD = os.environ["PRESSLINE_TEST_CLICKHOUSE_PASSWORD"]
CREDENTIALS = {"X-ClickHouse-User": USER, "X-ClickHouse-Key": PASSWORD}
WINDOW = "SETTINGS non_replicated_deduplication_window = 1000"


class Answer:
    """Status, headers and body of a reply."""

    def __init__(self, reply):
        self.status, self.headers, self.body = reply.status, reply.headers, reply.read()
        self.text = self.body.decode(errors="replace").strip()
        self.code = int(self.headers.get("X-ClickHouse-Exception-Code", 0))


def ask(body=b"", headers=CREDENTIALS, path="/", method="POST", connection=None, **given):
    if connection is None:
        with closing(http.client.HTTPConnection(ADDRESS, timeout=60)) as once:
            return ask(body, headers, path, method, once, **given)
    connection.request(method, f"{path}?{urlencode({'database': 'pressline', **given})}", body, headers)
    return Answer(connection.getresponse())


def run(statement, **settings):
    """The answer to a statement that must succeed."""
    answer = ask(statement.encode(), **settings)
    if answer.status != 200:
        raise AssertionError(answer.text)
    return answer.text


def rows(*numbers):
    return b"".join(b'{"a":%d}\n' % number for number in numbers)


def insert(table, data, form="JSONEachRow", **settings):
    return ask(data, query=f"INSERT INTO {table} FORMAT {form}", **settings)


def count(table):
    return int(run(f"SELECT count() FROM {table}"))


def fault(kind, **options):
    answer = ask(path="/front/fault", headers={}, kind=kind, **options)
    assert answer.status == 200, answer.text


def recorded():
    return json.loads(ask(path="/front/log", method="GET", headers={}).text)


def stack(*words):
    subprocess.run([sys.executable, HERE / "stack.py", *words], check=True)


class Case(unittest.TestCase):
    """A table of its own for each test; no fault is left over."""

    def setUp(self):
        self.table = f"t_{uuid.uuid4().hex[:12]}"
        self.addCleanup(fault, "clear")

    def create(self, columns="a Int64", engine="MergeTree ORDER BY a", settings=WINDOW, name=None):
        run(f"CREATE TABLE {name or self.table} ({columns}) ENGINE = {engine} {settings}")

    def ok(self, answer):
        self.assertEqual(200, answer.status, answer.text)
        return answer

    def refused(self, status, code, answer):
        self.assertEqual((status, code), (answer.status, answer.code), answer.text)
        self.assertTrue(answer.text.startswith(f"Code: {code}. DB::Exception: "), answer.text)


class Interface(Case):
    """The HTTP interface."""

    def test_ping_needs_no_password(self):
        self.assertEqual("Ok.", ask(path="/ping", method="GET", headers={}).text)
        self.assertEqual("Ok.", ask(path="/ping", headers={}).text)

    def test_credentials_come_in_three_ways(self):
        basic = {"Authorization": "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
        self.ok(ask(b"SELECT 1", headers=basic))
        self.ok(ask(b"SELECT 1", headers={}, user=USER, password=PASSWORD))
        for wrong in ({}, {**CREDENTIALS, "X-ClickHouse-Key": "x"}, {**CREDENTIALS, "X-ClickHouse-User": "x"}):
            self.refused(403, 516, ask(b"SELECT 1", headers=wrong))

    def test_tls(self):
        trust = ssl.create_default_context(cafile=Path(os.environ["PRESSLINE_TEST_TLS_DIR"]) / "ca.pem")
        address = urlsplit(os.environ["PRESSLINE_TEST_CLICKHOUSE_TLS"]).netloc
        with closing(http.client.HTTPSConnection(address, context=trust)) as connection:
            self.ok(ask(b"SELECT 1", connection=connection))
        with closing(http.client.HTTPSConnection(address)) as connection:
            with self.assertRaises(ssl.SSLCertVerificationError):
                ask(b"SELECT 1", connection=connection)

    def test_the_statement_may_be_in_the_address_the_body_or_both(self):
        self.create()
        self.assertEqual("1", ask(query="SELECT 1", method="GET").text)
        self.assertEqual("1", ask(b"+ 0", query="SELECT 1").text)
        self.ok(ask(b"INSERT INTO %s VALUES (1), (2)" % self.table.encode()))
        self.ok(ask(b"(3)", query=f"INSERT INTO {self.table} VALUES"))
        self.ok(ask(b"INSERT INTO %s (a) /* FORMAT x */ FORMAT JSONEachRow\n" % self.table.encode() + rows(4)))
        self.ok(insert(self.table, rows(5)))
        self.ok(ask(query=f"INSERT INTO {self.table} SELECT 6"))
        self.ok(ask((7).to_bytes(8, "little"), query=f"INSERT INTO {self.table} (`a`) FORMAT RowBinary"))
        self.ok(ask(b"8", query=f"INSERT INTO {self.table} SETTINGS async_insert = 0 FORMAT TSV"))
        self.assertEqual("12345678", run(f"SELECT arrayStringConcat(arraySort(groupArray(a))) FROM {self.table}"))

    def test_get_is_read_only(self):
        self.create()
        self.refused(500, 164, ask(query=f"INSERT INTO {self.table} SELECT 1", method="GET"))

    def test_default_format_and_parameters(self):
        self.assertEqual('{"x":5}', ask(b"SELECT {p:Int32} AS x", default_format="JSONEachRow", param_p="5").text)
        self.assertEqual("x", ask(b"SELECT 'x' FORMAT TSV", default_format="JSON").text)

    def test_settings_of_one_request_do_not_reach_the_next(self):
        self.assertEqual("a'b\\", run("SELECT getSetting('insert_deduplication_token') FORMAT TSVRaw",
                                      insert_deduplication_token="a'b\\"))  # fmt: skip
        self.assertEqual("", run("SELECT getSetting('insert_deduplication_token')"))
        run("SET max_block_size = 17")
        self.assertNotEqual("17", run("SELECT getSetting('max_block_size')"))

    def test_errors_carry_code_and_status(self):
        self.create()
        self.refused(404, 60, ask(b"SELECT 1 FROM nowhere"))
        self.refused(404, 60, insert("nowhere", rows(1)))
        self.refused(404, 115, ask(b"SELECT 1", no_such_setting="1"))
        self.refused(404, 81, ask(b"SELECT 1", database="nowhere"))
        self.refused(400, 62, ask(b"SELECT FROM WHERE"))
        self.refused(400, 27, insert(self.table, rows(1) + b'{"a":x}'))
        run(f"ALTER TABLE {self.table} ADD CONSTRAINT small CHECK a < 5")
        self.refused(500, 469, insert(self.table, rows(1, 7)))
        self.assertEqual(0, count(self.table))

    def test_an_insert_of_nothing(self):
        self.create()
        for form in ("Native", "RowBinary", "JSONEachRow"):
            self.ok(insert(self.table, b"", form))
        self.assertEqual(0, count(self.table))

    def test_summary_and_query_id(self):
        self.create()
        answer = insert(self.table, rows(1, 2, 3), query_id="mine")
        self.assertEqual("mine", answer.headers["X-ClickHouse-Query-Id"])
        self.assertEqual("3", json.loads(answer.headers["X-ClickHouse-Summary"])["written_rows"])

    def test_one_connection_serves_many_requests(self):
        connection = http.client.HTTPConnection(ADDRESS)
        self.addCleanup(connection.close)
        for _ in range(3):
            ask(b"SELECT 1", connection=connection)
            self.refused(404, 60, ask(b"SELECT 1 FROM nowhere", connection=connection))
            first = connection.sock
        self.assertIs(first, connection.sock)

    def test_requests_run_side_by_side(self):
        self.create()
        begun = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            slow = [pool.submit(run, "SELECT sleep(1)") for _ in range(4)]
            answers = list(pool.map(lambda n: insert(self.table, rows(n)), range(20)))
            for one in slow:
                one.result()
        self.assertLess(time.monotonic() - begun, 3)
        self.assertEqual([200] * 20, [answer.status for answer in answers])
        self.assertEqual(20, count(self.table))


class Bodies(Case):
    """Request bodies, whole and broken."""

    def raw(self, head, body=b"", **given):
        """A connection on which a request was begun by hand."""
        connection = socket.create_connection(ADDRESS.split(":"), timeout=60)
        self.addCleanup(connection.close)
        query = urlencode({"database": "pressline", "query": f"INSERT INTO {self.table} FORMAT JSONEachRow", **given})
        headers = [f"POST /?{query} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in CREDENTIALS.items())]
        connection.sendall("\r\n".join([*headers, *head, "", ""]).encode() + body)
        return connection

    def test_chunked(self):
        self.create()
        pieces = (rows(number) for number in range(100))
        self.ok(ask(pieces, query=f"INSERT INTO {self.table} FORMAT JSONEachRow"))
        self.assertEqual(100, count(self.table))

    def test_expect_100_continue(self):
        self.create()
        data = rows(1)
        connection = self.raw(["Expect: 100-continue", f"Content-Length: {len(data)}"])
        self.assertIn(b"100 Continue", connection.recv(1000))
        connection.sendall(data)
        self.assertIn(b"200 OK", connection.recv(1000))
        self.assertEqual(1, count(self.table))

    def test_a_broken_body_inserts_nothing(self):
        self.create()
        for head in (["Content-Length: 1000"], ["Transfer-Encoding: chunked"]):
            part = rows(1, 2)
            if "chunked" in head[0]:
                part = b"%x\r\n%b\r\n" % (len(part), part)
            connection = self.raw(head, part)
            connection.shutdown(socket.SHUT_WR)
            self.assertEqual(b"", connection.recv(1000))
        self.assertEqual(0, count(self.table))

    def test_a_stalled_body_is_dropped_after_http_receive_timeout(self):
        self.create()
        begun = time.monotonic()
        answer = self.raw(["Content-Length: 1000"], rows(1), http_receive_timeout=1).recv(1000)
        self.assertIn(b"Code: 209. ", answer)
        self.assertIn(b"503", answer.splitlines()[0])
        self.assertTrue(0.9 < time.monotonic() - begun < 3)
        self.assertEqual(0, count(self.table))

    def test_compressed_bodies_and_answers(self):
        self.create()
        data = rows(*range(200_000))
        packed = clickhouse_blocks.pack(data)
        self.assertGreater(len(data), 2 << 20)  # so that there are several blocks
        self.ok(insert(self.table, packed, decompress=1))
        self.assertEqual(200_000, count(self.table))
        spoilt = packed[:40] + bytes([packed[40] ^ 1]) + packed[41:]
        self.refused(500, 40, insert(self.table, spoilt, decompress=1))
        self.refused(500, 33, insert(self.table, packed[:-1], decompress=1))
        answer = ask(b"SELECT a FROM %s ORDER BY a FORMAT JSONEachRow" % self.table.encode(), compress=1)
        self.assertEqual(data, clickhouse_blocks.unpack(answer.body))
        zipped = {**CREDENTIALS, "Content-Encoding": "gzip"}
        self.ok(ask(gzip.compress(rows(1)), zipped, query=f"INSERT INTO {self.table} FORMAT JSONEachRow"))

    def test_the_checksum_is_the_engines_own(self):
        self.create(settings=f"{WINDOW}, min_bytes_for_wide_part = 0")
        run(f"INSERT INTO {self.table} SELECT number FROM numbers(1000)")
        path = run(f"SELECT path FROM system.parts WHERE table = '{self.table}' AND active")
        column = FOLDER / "clickhouse" / path / "a.bin"
        self.assertEqual(8000, len(clickhouse_blocks.unpack(column.read_bytes())))

    def test_native_round_trip(self):
        columns = (
            "a Int64, l LowCardinality(String), n Nullable(Int32), ln LowCardinality(Nullable(String)), "
            "d DateTime64(3, 'UTC'), f Float64, u UUID, m Map(String, Array(Nullable(Int8)))"
        )
        self.create(columns)
        run(
            f"INSERT INTO {self.table} SELECT number, toString(number % 3), if(number % 2, NULL, number), "
            "if(number % 5, 'x', NULL), toDateTime64(number / 7, 3, 'UTC'), number / 3, generateUUIDv4(number), "
            "map('k', [number % 100, NULL]) FROM numbers(10000)"
        )
        copy = f"{self.table}_copy"
        self.create(columns, name=copy)
        native = ask(f"SELECT * FROM {self.table} FORMAT Native".encode()).body
        self.ok(insert(copy, native, "Native"))
        different = f"(SELECT * FROM {self.table} EXCEPT SELECT * FROM {copy})"
        self.assertEqual((10_000, 0), (count(copy), count(different)))


class Deduplication(Case):
    """The engine's insert_deduplication_token on a plain MergeTree; what exactly-once loading rests on."""

    def put(self, token, *numbers, table=None, **settings):
        self.ok(insert(table or self.table, rows(*numbers), insert_deduplication_token=token, **settings))

    def test_the_same_token_inserts_once(self):
        self.create()
        self.put("x", 1)
        self.put("x", 1)
        self.put("y", 1)
        self.assertEqual(2, count(self.table))

    def test_the_same_token_with_other_rows_drops_them(self):
        self.create()
        self.put("x", 1)
        self.put("x", 1, 2, 3)
        self.assertEqual(1, count(self.table))

    def test_without_a_window_nothing_is_dropped(self):
        self.create(settings="")
        self.put("x", 1)
        self.put("x", 1)
        self.assertEqual(2, count(self.table))

    def test_the_window_counts_all_inserts_of_the_table(self):
        self.create("a Int64", "MergeTree ORDER BY a PARTITION BY a % 2",
                    "SETTINGS non_replicated_deduplication_window = 3")  # fmt: skip
        self.put("x", 2)
        for number in (1, 3):
            self.put(f"odd {number}", number)
        self.put("x", 2)
        self.assertEqual(3, count(self.table))
        for number in (5, 7, 9):
            self.put(f"odd {number}", number)
        self.put("x", 2)  # pushed out by inserts of the other partition
        self.assertEqual(7, count(self.table))

    def test_a_token_counts_per_table_partition(self):
        self.create("a Int64", "MergeTree ORDER BY a PARTITION BY a % 3")
        self.put("x", 0, 1)
        self.put("x", 0, 1, 2)
        self.assertEqual("0,1,2", run(f"SELECT arrayStringConcat(arraySort(groupArray(a)), ',') FROM {self.table}"))

    def test_dependent_views_deduplicate_too(self):
        self.create()
        self.create(name=f"{self.table}_copy")
        run(f"CREATE MATERIALIZED VIEW {self.table}_view TO {self.table}_copy AS SELECT a FROM {self.table}")
        self.put("x", 1)
        self.put("x", 1)
        self.assertEqual((1, 1), (count(self.table), count(f"{self.table}_copy")))

    def test_a_view_into_a_table_without_a_window(self):
        self.create()
        self.create(name=f"{self.table}_copy", settings="")
        run(f"CREATE MATERIALIZED VIEW {self.table}_view TO {self.table}_copy AS SELECT a FROM {self.table}")
        self.put("x", 1)
        self.put("x", 1)
        self.assertEqual((1, 2), (count(self.table), count(f"{self.table}_copy")))

    def test_a_retry_after_too_many_parts_is_clean(self):
        self.create(settings=f"{WINDOW}, parts_to_throw_insert = 3")
        run(f"SYSTEM STOP MERGES {self.table}")
        numbers = []
        while True:
            number = len(numbers)
            answer = insert(self.table, rows(number), insert_deduplication_token=str(number))
            if answer.status != 200:
                break
            numbers.append(number)
            self.assertLess(len(numbers), 10)
        self.assertEqual(len(numbers), count(self.table))
        self.refused(500, 252, answer)
        # Parts are counted before tokens are looked at: what would be dropped is refused as well.
        self.refused(500, 252, insert(self.table, rows(0), insert_deduplication_token="0"))
        run(f"SYSTEM START MERGES {self.table}")
        run(f"OPTIMIZE TABLE {self.table} FINAL")
        self.put(str(len(numbers)), len(numbers))
        self.put(str(len(numbers)), len(numbers))
        self.assertEqual(len(numbers) + 1, count(self.table))

    def test_deduplicate_insert_supersedes_insert_deduplicate(self):
        self.create()
        self.put("x", 1)
        self.put("x", 1, deduplicate_insert="disable")
        self.assertEqual(2, count(self.table))
        self.put("x", 1, insert_deduplicate=0, deduplicate_insert="enable")
        self.assertEqual(2, count(self.table))

    def test_one_native_block_stays_one_part_unless_limits_are_strict(self):
        self.create()
        run(f"SYSTEM STOP MERGES {self.table}")
        million = b"SELECT toInt64(number) AS a FROM numbers(3000000) SETTINGS max_block_size = 3000000 FORMAT Native"
        native = ask(million).body
        for strict, parts in ((0, 1), (1, 3)):
            run(f"TRUNCATE TABLE {self.table}")
            pins = {"insert_deduplication_token": "x", "async_insert": 0, "use_strict_insert_block_limits": strict}
            self.ok(insert(self.table, native, "Native", **pins))
            active = f"SELECT count(), sum(rows) FROM system.parts WHERE table = '{self.table}' AND active"
            self.assertEqual(f"{parts}\t3000000", run(active))

    def test_another_split_into_blocks_duplicates(self):
        """Also where the server joins the blocks again before it writes them: the tokens are made before that."""
        whole = ask(b"SELECT arrayJoin([1, 2])::Int64 AS a FORMAT Native").body
        split = b"".join(ask(b"SELECT toInt64(%d) AS a FORMAT Native" % number).body for number in (1, 2))
        apart = {"min_insert_block_size_rows": 1, "min_insert_block_size_bytes": 0}
        for order, settings, kept in (
            ((whole, whole), {}, [1, 2]),
            ((split, split), {}, [1, 2]),
            ((whole, split), {}, [1, 1, 2, 2]),
            ((split, whole), {}, [1, 1, 2, 2]),
            ((whole, split), apart, [1, 2, 2]),
            ((split, whole), apart, [1, 2]),
        ):
            name = f"t_{uuid.uuid4().hex[:12]}"
            self.create(name=name)
            for data in order:
                token = {"insert_deduplication_token": "x", "max_insert_threads": 1}
                self.ok(insert(name, data, "Native", **token, **settings))
            self.assertEqual(kept, json.loads(run(f"SELECT arraySort(groupArray(a::Int32)) FROM {name}")))

    def test_defaults(self):
        default = "SELECT default FROM system.settings WHERE name = '{}'"
        for name, value in {
            "async_insert": "1",
            "deduplicate_insert": "enable",
            "insert_deduplicate": "1",
            "use_strict_insert_block_limits": "0",
            "deduplicate_blocks_in_dependent_materialized_views": "1",
        }.items():
            self.assertEqual(value, run(default.format(name)), name)


class Faults(Case):
    """Failures on order, and real ones."""

    def test_a_lost_response_has_inserted(self):
        self.create()
        fault("lose_response", count=1)
        with self.assertRaises(http.client.RemoteDisconnected):
            insert(self.table, rows(1), insert_deduplication_token="x")
        self.assertEqual(1, count(self.table))
        self.ok(insert(self.table, rows(1), insert_deduplication_token="x"))
        self.assertEqual(1, count(self.table))

    def test_a_lost_request_has_not(self):
        self.create()
        fault("lose_request", count=1)
        with self.assertRaises(http.client.RemoteDisconnected):
            insert(self.table, rows(1))
        self.assertEqual(0, count(self.table))

    def test_refusals(self):
        self.create()
        fault("too_many_parts", count=2)
        for _ in range(2):
            self.refused(500, 252, insert(self.table, rows(1)))
        self.ok(insert(self.table, rows(1)))
        fault("read_only_disk")
        for _ in range(3):
            self.refused(500, 164, insert(self.table, rows(1)))
        fault("clear")
        fault("error", code=243, text="Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)", count=1)
        self.refused(500, 243, insert(self.table, rows(1)))
        self.assertEqual(1, count(self.table))

    def test_slow_and_down(self):
        self.create()
        for kind in ("slow", "slow_answer"):
            fault(kind, ms=300, count=1)
            begun = time.monotonic()
            self.ok(insert(self.table, rows(1)))
            self.assertGreater(time.monotonic() - begun, 0.3)
        fault("down")
        self.assertEqual(503, ask(b"SELECT 1").status)
        self.assertEqual(503, ask(path="/ping").status)
        fault("clear")
        self.ok(ask(b"SELECT 1"))
        self.assertEqual(400, ask(path="/front/fault", kind="nonsense").status)
        self.assertEqual(400, ask(path="/front/fault", kind="slow").status)

    def test_the_record_tells_inserts(self):
        self.create()
        insert(self.table, rows(1, 2), insert_deduplication_token="x", async_insert=0)
        fault("too_many_parts", count=1)
        insert(self.table, rows(3))
        good, bad = [entry for entry in recorded() if self.table in entry["statement"]]
        self.assertEqual(("x", 2, "ok", "JSONEachRow"), (good["token"], good["rows"], good["result"], good["format"]))
        self.assertEqual({"insert_deduplication_token": "x", "async_insert": "0"}, good["settings"])
        self.assertEqual(len(rows(1, 2)), good["bytes"])
        self.assertIn("Code: 252. ", bad["result"])

    def test_kill_9_keeps_data_and_tokens(self):
        self.create()
        self.ok(insert(self.table, rows(*range(1000)), insert_deduplication_token="x"))
        stack("restart", "clickhouse")
        self.assertEqual(1000, count(self.table))
        self.ok(insert(self.table, rows(*range(1000)), insert_deduplication_token="x"))
        self.assertEqual(1000, count(self.table))

    def test_kill_9_amid_inserts(self):
        self.create()
        answered = []

        def work():
            for number in range(10_000):
                if insert(self.table, rows(number), insert_deduplication_token=str(number)).status == 200:
                    answered.append(number)

        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(work)
            while len(answered) < 20:
                time.sleep(0.01)
            stack("kill", "clickhouse", "-9")
            self.assertIsInstance(running.exception(), (OSError, http.client.HTTPException))
        stack("restart", "clickhouse")
        kept = json.loads(run(f"SELECT groupArray(a::Int32) FROM {self.table}"))
        self.assertEqual(len(set(kept)), len(kept))
        self.assertLessEqual(set(answered), set(kept))
        self.assertLessEqual(len(kept) - len(answered), 1)


if __name__ == "__main__":
    unittest.main()
