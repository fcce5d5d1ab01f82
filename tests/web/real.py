"""Topics, tables and a relay with both sinks on the services that tests/stack starts, and `pressline web` beside them."""

import io
import json
import os
import random
import re
import subprocess
import tempfile
import time
import urllib.request
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.harness.link import Link
from tests.harness.paths import ROOT
from tests.harness.stack import service
from tests.harness.tables import ClickHouseTable, PostgresTable
from tests.harness.waiting import Failure, await_that
from tests.web.stage import BINARY, WebApp

PARTITIONS = 3


class Real:
    """All of it; a context manager."""

    def __init__(self):
        number = int.from_bytes(os.urandom(4), "big")
        self.name = f"web-{number:08x}"
        self.raw, self.out = f"{self.name}-raw", f"{self.name}-out"
        self.broker, self.registry = service("BOOTSTRAP"), service("REGISTRY")
        self.tables = [PostgresTable(number), ClickHouseTable(number)]
        self._admin = AdminClient({"bootstrap.servers": self.broker, "log_level": 0})
        self._schemas = {}

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name)
        topics = [NewTopic(topic, PARTITIONS, 1) for topic in (self.raw, self.out, f"{self.raw}.dead", f"{self.out}.dead")]
        for future in self._admin.create_topics(topics).values():
            future.result(30)
        for table in self.tables:
            table.make()
        self.links = {table.name: Link(table.address.removeprefix("http://")) for table in self.tables}
        _, _, port = service("BOOTSTRAP_PROXIED").rpartition(":")
        self.links["kafka"] = Link(service("PROXY_UPSTREAM"), int(port))
        self.pipeline = self.folder / "pipelines" / f"{self.name}.toml"
        self.pipeline.parent.mkdir()
        self.pipeline.write_text(self._pipeline_text())
        with open(self.folder / "run.log", "wb") as log:
            words = [
                "run", self.pipeline, "--set", "http.listen=127.0.0.1:0",
                "--set", f"kafka.bootstrap_servers={self.broker}", "--set", f"registry.url={self.registry}",
            ]  # fmt: skip
            self._relay = subprocess.Popen([BINARY, *words], cwd=self.folder, stdout=log, stderr=log)
        return self

    def __exit__(self, kind, *_):
        self._relay.terminate()
        self._relay.wait(60)
        if kind is not None:
            print((self.folder / "run.log").read_text()[-3000:])
        for link in self.links.values():
            link.close()
        if kind is None:
            for table in self.tables:
                table.drop()
            for future in self._admin.delete_topics([self.raw, self.out, f"{self.raw}.dead", f"{self.out}.dead"]).values():
                future.result(30)
        self._folder.cleanup()

    def _pipeline_text(self):
        text = (
            f'[source]\ntopic = "{self.raw}"\n[output]\ntopic = "{self.out}"\nschema = "{ROOT}/schemas/button_presses.avsc"\n'
            f'[place]\nfiles = ["{ROOT}/data/demo.mmdb"]\nmin_addresses = 0\n'
        )
        for table in self.tables:
            password = self.folder / f"{table.name}.password"
            password.write_text(table.password)
            # The sinks' own connections are not broken: what the web app asks is.
            where = f'url = "{table.address}"\n'
            if table.name == "postgres":
                port = table.address.rpartition(":")[2]
                where = f'host = "127.0.0.1"\nport = {port}\nsslmode = "disable"\noffsets_table = "{table.offsets}"\n'
            text += (
                f'[sink.{table.name}]\n{where}database = "{table.database}"\nuser = "{table.user}"\npassword_file = "{password}"\n'
                f'table = "{table.table}"\n[sink.{table.name}.batch]\nmax_wait_ms = 100\n'
            )
        return text

    def web(self, store, **sets):
        """A web app, not started, whose statistics come from there, over a link that can be broken."""
        folder = self.folder / f"web-{store}-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        link = self.links.get({"clickhouse": "clickhouse", "postgres": "postgres"}.get(store))
        own = {"web.store": store, "web.trusted_proxies": '["127.0.0.1"]', "web.session_presses_per_minute": 100_000}
        if store == "clickhouse":
            own["sink.clickhouse.url"] = f"http://127.0.0.1:{link.port}"
        if store == "postgres":
            own["sink.postgres.port"] = link.port
        return WebApp(self, folder, self.pipeline, **{**own, "web.made_up_address": "false", **sets})

    def send(self, presses):
        """Raw presses, and waits until the broker has them."""
        producer = Producer({"bootstrap.servers": self.broker, "linger.ms": 20, "log_level": 0})
        for number, press in enumerate(presses):
            producer.produce(self.raw, json.dumps(press).encode(), press["session_id"].encode(), number % PARTITIONS)
        if producer.flush(60):
            raise Failure("the presses cannot be sent")

    def raw_records(self):
        """Key and value of each raw record."""
        return [(message.key().decode(), json.loads(message.value())) for message in self._read(self.raw)]

    def out_records(self):
        """(partition, offset, value) of each enriched record."""
        if self._relay.poll() is not None:
            raise Failure("the relay has ended")
        return [(message.partition(), message.offset(), self._decoded(message.value())) for message in self._read(self.out)]

    def forget(self, partition, before):
        """Deletes the enriched records of a partition before an offset."""
        for future in self._admin.delete_records([TopicPartition(self.out, partition, before)]).values():
            future.result(30)

    def await_tables(self, number):
        """Until both hold so many rows."""
        for table in self.tables:
            await_that(
                f"{number} rows in {table.name}",
                lambda table=table: int(_cell(table.run_sql(f"SELECT count(*) FROM {table.table}"))) >= number,
            )

    def _read(self, topic):
        options = {"group.id": "web-tests", "enable.auto.commit": False, "enable.partition.eof": True, "log_level": 0}
        consumer = Consumer({"bootstrap.servers": self.broker, "isolation.level": "read_committed", **options})
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
        found, ends = [], 0
        while ends < PARTITIONS:
            for message in consumer.consume(10_000, timeout=0.2):
                if message.error() is None:
                    found.append(message)
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    ends += 1
        consumer.close()
        return found

    def _decoded(self, value):
        number = int.from_bytes(value[1:5], "big")
        if number not in self._schemas:
            with urllib.request.urlopen(f"{self.registry}/schemas/ids/{number}", timeout=30) as answer:
                self._schemas[number] = fastavro.parse_schema(json.loads(json.load(answer)["schema"]))
        return fastavro.schemaless_reader(io.BytesIO(value[5:]), self._schemas[number])


def _cell(rows):
    return rows[0][0] if isinstance(rows[0], tuple) else rows[0]


class Expected:
    """What `/stats` must show of these enriched records: the oracle."""

    def __init__(self, records):
        self._presses = [record for record in records if record["action"] == "PressButton"]
        self._records = records

    def totals(self):
        """Presses, and generated ones among them."""
        return len(self._presses), sum(press["cohort"] is None for press in self._presses)

    def countries(self):
        """The twelve with most presses."""
        counts = {}
        for press in self._presses:
            name = press["country_name"] or "place unknown"
            counts[name] = counts.get(name, 0) + 1
        return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:12]

    def hours(self):
        """Presses by local hour."""
        counts = [0] * 24
        for press in self._presses:
            hour = _local_hour(press)
            if hour is not None:
                counts[hour] += 1
        return counts

    def own(self, session):
        """When a session began, its presses, and (name, last hour, all) of its last press's places."""
        own = [record for record in self._records if str(record["session_id"]) == session]
        presses = sorted((record for record in own if record["action"] == "PressButton"), key=lambda record: record["timestamp"])
        began = min(record["timestamp"] for record in own)
        return f"{began:%Y-%m-%d %H:%M:%S} UTC", len(presses), self._places(presses[-1])

    def _places(self, last):
        hour_ago = datetime.now(timezone.utc) - timedelta(hours=1)
        found, keys = [], ["country_code"]
        for name in ("country_name", "subdivision_name", "city_name"):
            if name != "country_name":
                if not last[name]:
                    continue
                keys.append(name)
            same = [press for press in self._presses if all(press[key] == last[key] for key in keys)]
            found.append((last[name] or "place unknown", sum(press["timestamp"] > hour_ago for press in same), len(same)))
        return found


def _local_hour(press):
    try:
        return press["timestamp"].astimezone(ZoneInfo(press["time_zone"])).hour
    except (KeyError, TypeError, ValueError):
        if press["longitude"] is None:
            return None
        return (press["timestamp"] + timedelta(hours=press["longitude"] / 15)).hour


def shown(html):
    """What the page shows, as `Expected` gives it."""
    tables = {}
    for caption, body in re.findall(r"<caption>([^<]+)</caption>.*?<tbody>(.*?)</tbody>", html, re.DOTALL):
        rows = re.findall(r"<tr><th[^>]*>([^<]*)</th>((?:<td>\d+</td>)+)", body)
        tables[caption] = [(_plain(name), *map(int, re.findall(r"\d+", cells))) for name, cells in rows]
    total = re.search(r'<strong id="all">(\d+)</strong> presses, (\d+) of them generated', html)
    began = re.search(r"Your session began at <strong>([^<]+)</strong>; <strong id=\"own\">(\d+)</strong>", html)
    return {
        "totals": total and tuple(map(int, total.groups())),
        "countries": tables.get("By country"),
        "hours": [count for _, count in tables.get("By hour of the day where they were pressed", [])],
        "own": began and (began[1], int(began[2]), tables.get("Presses from where you are")),
    }


def _plain(text):
    for entity, plain in (("&#38;", "&"), ("&#39;", "'"), ("&#34;", '"'), ("&#60;", "<"), ("&#62;", ">")):
        text = text.replace(entity, plain)
    return text


def history(addresses, seed):
    """Raw presses of the last days: some within the last hour, none near its beginning; a third generated."""
    draw, now = random.Random(seed), time.time()
    for number in range(600):
        ago = draw.uniform(60, 50 * 60) if number % 3 else draw.uniform(70 * 60, 3 * 86_400)
        yield {
            "session_id": str(uuid.UUID(int=draw.getrandbits(128), version=4)),
            "timestamp": int((now - ago) * 1e6),
            "cohort": draw.choice([None, 0, 1]),
            "action": "EnterPage" if number % 7 == 0 else "PressButton",
            "ip": draw.choice(addresses),
        }
