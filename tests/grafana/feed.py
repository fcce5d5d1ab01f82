"""A real run for the dashboards to look at: pressline's relay and both sinks, fed with generated presses."""

import io
import json
import subprocess
import time
import urllib.request
from datetime import datetime, timezone
from decimal import Decimal

import fastavro
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import OffsetSpec

from tests.harness.load_world import ChainWorld
from tests.harness.rows import SCHEMA_FILE
from tests.harness.stack import service
from tests.harness.waiting import Failure, await_that
from tests.harness.world import PARTITIONS

# Presses that do not come from the relay.
ZONED = 480
# Places with their time zones, which the bundled GeoIP database does not have.
ZONES = (
    ("Germany", "DE", "Berlin", 52.52, 13.40, "Europe/Berlin"),
    ("Japan", "JP", "Tokyo", 35.68, 139.69, "Asia/Tokyo"),
    ("Nepal", "NP", "Kathmandu", 27.72, 85.32, "Asia/Kathmandu"),
    ("United States", "US", "New York", 40.71, -74.01, "America/New_York"),
)


class Feed(ChainWorld):
    """Presses of the last 20 hours, then live ones until `end`. Nothing is judged here but what the dashboards show."""

    def __init__(self):
        super().__init__("grafana")
        self._live = None
        self._log = self.folder / "generate.log"

    def _pipeline(self):
        """With a geocoder that is never there: its series must be, all the same."""
        geocoder = '[place.geocoder]\nurl = "http://127.0.0.1:9"\ncontact = "grafana@example.org"\n'
        return super()._pipeline() + geocoder

    def begin(self):
        for table in self.tables.values():
            table.make()

    def __exit__(self, kind, *rest):
        self.end()
        super().__exit__(kind, *rest)

    def feed(self):
        """Sends what lies in the past and goes on with live presses."""
        if self._generate("--count", "4000", "--spread", "20h", "--cohorts", "1,2").wait(60):
            raise Failure(f"pressline generate: {self._log.read_text()[-500:]}")
        self._live = self._generate("--rate", "150", "--seed", "2", "--malformed", "2%")
        await_that("the relay to commit", lambda: sum(self.committed().values()) >= 4000, pause=0.2)
        self._send_zoned()

    def end(self):
        """No more presses."""
        if self._live:
            self._live.terminate()
            self._live.wait(20)

    def settled(self):
        """Whether everything was relayed, and all of that is in both tables."""
        if self.committed() != self._ends(self.raw):
            return False
        postgres, clickhouse = self.tables["postgres"], self.tables["clickhouse"]
        in_postgres = int(postgres.run_sql(f"SELECT count(*) FROM {postgres.table}")[0][0])
        in_clickhouse = int(clickhouse.run_sql(f"SELECT count() FROM {clickhouse.table}")[0])
        written = sum(instance.metric("pressline_records_written_total") for instance in self.instances)
        return in_postgres == in_clickhouse == written + ZONED

    def ask_clickhouse(self, sql):
        """Rows and names of the columns."""
        settings = "output_format_json_quote_64bit_integers = 0"
        lines = self.tables["clickhouse"].run_sql(f"{sql}\nSETTINGS {settings} FORMAT JSONCompactEachRowWithNames")
        columns, *rows = map(json.loads, lines)
        times = [index for index, column in enumerate(columns) if column == "time"]
        for row in rows:
            for index in times:  # the table's times are in UTC, the seconds of the interval's begin are all there is
                row[index] = datetime.fromisoformat(row[index]).replace(tzinfo=timezone.utc).timestamp()
        return rows, columns

    def ask_postgres(self, sql):
        """The same, decimal numbers as floats."""
        with self.tables["postgres"].connect() as connection:
            cursor = connection.execute(sql)
            rows = [[float(cell) if isinstance(cell, Decimal) else cell for cell in row] for row in cursor]
            return rows, [column.name for column in cursor.description]

    def _ends(self, topic):
        where = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in range(PARTITIONS)}
        return {at.partition: future.result(10).offset for at, future in self.admin.list_offsets(where).items()}

    def _generate(self, *words):
        where = ["--bootstrap-servers", self.bootstrap, "--topic", self.raw]
        with open(self._log, "ab") as log:
            command = [str(self.binary), "generate", *where, *words]
            return subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)

    def _send_zoned(self):
        subject = f"{service('REGISTRY')}/subjects/{self.out}-value/versions/latest"
        with urllib.request.urlopen(subject, timeout=30) as answer:
            number = json.load(answer)["id"]
        schema = json.loads(SCHEMA_FILE.read_text())
        for field in schema["fields"]:
            if isinstance(field["type"], dict):  # without the logical type, so that numbers and texts go in as they are
                field["type"] = field["type"]["type"]
        schema = fastavro.parse_schema(schema)
        producer = Producer({"bootstrap.servers": self.bootstrap, "log_level": 0})
        now = time.time_ns() // 1000
        for count in range(ZONED):
            datum = io.BytesIO()
            fastavro.schemaless_writer(datum, schema, _zoned(count, now - count % 240 * 300_000_000))
            value = b"\0" + number.to_bytes(4, "big") + datum.getvalue()
            producer.produce(self.out, value, partition=count % PARTITIONS)
        producer.flush(30)


def _zoned(count, timestamp):
    """One press in the time zone of its place."""
    country, code, city, latitude, longitude, zone = ZONES[count // 2 % len(ZONES)]
    return {
        "session_id": f"00000000-0000-4000-8000-{count // 2:012d}",
        "timestamp": timestamp,
        "cohort": 1 + count // 2 % 2,
        "action": ("EnterPage", "PressButton")[count % 2],
        "country_name": country,
        "country_code": code,
        "subdivision_name": "",
        "subdivision_code": "",
        "city_name": city,
        "latitude": latitude,
        "longitude": longitude,
        "accuracy_km": None,
        "time_zone": zone,
    }
