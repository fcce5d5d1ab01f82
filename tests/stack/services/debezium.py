"""Kafka Connect with Debezium's PostgreSQL connector, standalone: the stack's PostgreSQL → its Kafka."""

import os
from pathlib import Path

from . import cache, ports
from .process import Failed, Process

FORMATS = ("avro", "connect_json", "json")
_JSON = "org.apache.kafka.connect.json.JsonConverter"


class Connector:
    """A connector: `tables` of a database into topics with its name as prefix. `more` are settings of its own."""

    def __init__(self, name, tables, format="avro", database=None, **more):
        self.name, self._tables, self._format, self._database, self._more = name, tables, format, database, more

    def settings(self):
        """As Kafka Connect reads them."""
        host, port = os.environ["PRESSLINE_TEST_POSTGRES"].rsplit(":", 1)
        slot = self.name.replace("-", "_")
        settings = {
            "name": self.name,
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "database.hostname": host,
            "database.port": port,
            "database.user": os.environ["PRESSLINE_TEST_POSTGRES_USER"],
            "database.password": os.environ["PRESSLINE_TEST_POSTGRES_PASSWORD"],
            "database.dbname": self._database or os.environ["PRESSLINE_TEST_POSTGRES_DATABASE"],
            "plugin.name": "pgoutput",
            "slot.name": slot,
            "publication.name": slot,
            "publication.autocreate.mode": "filtered",
            "table.include.list": ",".join(self._tables),
            "topic.prefix": self.name,
            # The default leaves truncates out.
            "skipped.operations": "none",
            # The broker of the tests makes no topics by itself.
            "topic.creation.default.replication.factor": 1,
            "topic.creation.default.partitions": 1,
        }
        for part in ("key", "value"):
            settings |= self._converter(f"{part}.converter")
        return settings | self._more

    def _converter(self, name):
        if self._format != "avro":
            schemas = str(self._format == "connect_json").lower()
            # By default a NULL arrives as the column's DEFAULT.
            return {name: _JSON, f"{name}.schemas.enable": schemas, f"{name}.replace.null.with.default": "false"}
        return {
            name: "io.apicurio.registry.utils.converter.AvroConverter",
            f"{name}.apicurio.registry.url": os.environ["PRESSLINE_TEST_REGISTRY"].replace("/ccompat/v7", "/registry/v2"),
            f"{name}.apicurio.registry.auto-register": "true",
            f"{name}.apicurio.registry.find-latest": "true",
            # Confluent's wire format: the id in four bytes before the value.
            f"{name}.apicurio.registry.headers.enabled": "false",
            f"{name}.apicurio.registry.as-confluent": "true",
            f"{name}.apicurio.registry.use-id": "contentId",
        }


class Debezium(Process):
    """Kafka Connect with these connectors; its files lie in `folder`."""

    def __init__(self, folder, *connectors):
        super().__init__(folder, "debezium")
        self._folder = Path(folder)
        self._port = ports.free(["connect"])["connect"]
        self._connectors = connectors

    def launch(self):
        """Starts it on the offsets that it has."""
        self._folder.mkdir(parents=True, exist_ok=True)
        files = [self._write("worker", self._worker())]
        files += [self._write(connector.name, connector.settings()) for connector in self._connectors]
        logger = "-Dorg.slf4j.simpleLogger"
        times = [f"{logger}.showDateTime=true", f"{logger}.dateTimeFormat=HH:mm:ss.SSS"]
        main = "org.apache.kafka.connect.cli.ConnectStandalone"
        self.start([cache.java(), "-Xmx512m", *times, "-cp", f"{cache.debezium_jars()}/*", main, *files])

    def await_ready(self):
        """Returns when the snapshots are over and changes are read from the slots."""
        self.wait_until(lambda: self.has_failed() or all(map(self._follows, self._connectors)), 240)
        if self.has_failed():
            raise Failed(self._report("has failed"))

    def has_failed(self):
        """Whether a connector has given up."""
        return self.has_logged("Task is being killed and will not recover")

    def _follows(self, connector):
        thread = f"-postgresconnector-{connector.name}-"
        lines = self.log.read_text(errors="replace").splitlines()
        return any(thread in line and "Processing messages" in line for line in lines)

    def _write(self, what, settings):
        file = self._folder / f"debezium-{what}.properties"
        file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        return file

    def _worker(self):
        return {
            "bootstrap.servers": os.environ["PRESSLINE_TEST_BOOTSTRAP"],
            "listeners": f"http://{ports.LOOPBACK}:{self._port}",
            "offset.storage.file.filename": self._folder / "debezium.offsets",
            "offset.flush.interval.ms": 1000,
            # Everything is on the class path, and says so: nothing is searched for.
            "plugin.discovery": "service_load",
            "key.converter": _JSON,
            "value.converter": _JSON,
        }
