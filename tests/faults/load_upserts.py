"""A world of changes: records change and delete the rows of a few hundred keys, and the tables must end as a model that has seen
each record once, in the order of its partition.

A record's key tells the row, its timestamp the record. Some records break a CHECK that only the table knows: those that would have
been the last of their key in a batch become dead letters, and the change before them stands.
"""

from tests.harness.checker import Verdict, session_id
from tests.harness.load_world import AvroLoad, LoadWorld
from tests.harness.tables import ClickHouseTable, PostgresTable, patiently

KEYS = 300
_EXAMPLES = 5
_SETTINGS = 'mode = "upsert"\ndeletes = true\npk_mode = "record_key"\npk_fields = ["session_id"]\nkey_format = "text"\n'


class PostgresRows(PostgresTable):
    """The recommended columns with a primary key."""

    def make(self):
        super().make()
        self.run_sql(
            f"ALTER TABLE {self.table} RENAME TO recommended; CREATE TABLE {self.table} "
            f"(LIKE {self.schema}.recommended INCLUDING CONSTRAINTS, PRIMARY KEY (session_id))"
        )


class ClickHouseRows(ClickHouseTable):
    """The recommended columns in a ReplacingMergeTree; read as they are now."""

    def make(self):
        super().make()
        plain = f"{self.table}_plain"
        self.run_sql(f"RENAME TABLE {self.table} TO {plain}")
        self.run_sql(
            f"CREATE TABLE {self.table} ENGINE = ReplacingMergeTree(_version, _deleted) ORDER BY session_id AS SELECT * EXCEPT "
            f"(_topic, _partition, _offset), toUInt64(0) AS _version, toUInt8(0) AS _deleted FROM {plain} LIMIT 0"
        )
        self.run_sql(f"DROP TABLE {plain}")
        self.run_sql(f"ALTER TABLE {self.table} ADD CONSTRAINT known_cohort CHECK ifNull(cohort, 0) < 50")

    def rows(self, missing=()):
        table, self.table = self.table, f"{self.table} FINAL"
        try:
            yield from super().rows((*missing, "_topic", "_partition", "_offset"))
        finally:
            self.table = table

    def doubled_coordinates(self):
        return 0


class UpsertWorld(LoadWorld):
    """See above."""

    def __init__(self, name, **more):
        super().__init__(name, **more)
        kinds = {"postgres": PostgresRows, "clickhouse": ClickHouseRows}
        self.tables = {database: kinds[database](self.run) for database in self.tables}

    def _start_load(self):
        return ChangeLoad(self)

    def _sink(self, table):
        return super()._sink(table).replace("connect_timeout_ms", f"{_SETTINGS}connect_timeout_ms", 1)

    def key(self, partition, sequence):
        """The row that a record is about: some are changed often."""
        return session_id(self.run, partition, sequence * sequence % KEYS)

    @staticmethod
    def is_delete(partition, sequence):
        """Whether the record has no value."""
        return (sequence + partition) % 5 == 3

    def change(self, partition, sequence):
        """The row as the record has it; None where it goes."""
        if self.is_delete(partition, sequence):
            return None
        return self.rows.fields(partition, sequence) | {"session_id": self.key(partition, sequence)}

    def is_loaded(self, database, sent):
        """By the positions: of most changes nothing is to be seen in the table."""
        positions = self.positions(database)
        return all(positions.get(partition, 0) >= count for partition, count in sent.items())

    def _model(self, sent):
        rows = {}
        for partition, count in sent.items():
            for sequence in range(count):
                key, row = self.key(partition, sequence), self.change(partition, sequence)
                if row is None:
                    rows.pop(key, None)
                elif not self.is_bad(partition, sequence):
                    rows[key] = row
        return rows

    def _judge(self, table, sent, letters):
        model, inputs = self._model(sent), sum(sent.values())
        dead = self.dead_inputs(table.name, letters)
        verdict = Verdict(inputs=inputs, written=inputs - len(dead), dead=len(dead))

        def wrong(kind, words):
            setattr(verdict, kind, getattr(verdict, kind) + 1)
            if len(verdict.examples) < _EXAMPLES:
                verdict.examples.append(f"{table.name}: {words}")

        for partition, sequence in dead:
            if self.is_delete(partition, sequence) or not self.is_bad(partition, sequence):
                wrong("wrong", f"{partition}/{sequence} is a dead letter and sound")
        seen = set()
        for row in patiently(lambda: list(table.rows()), f"the rows of {table.name}"):
            key = row["session_id"]
            if key in seen:
                wrong("doubled", f"key {key} is there twice")
            seen.add(key)
            if key not in model:
                wrong("wrong", f"key {key} was deleted, and is there as of {row['timestamp']}")
            elif differing := {name: row[name] for name in model[key] if row[name] != model[key][name]}:
                wrong("wrong", f"key {key} has {differing}")
        for key in model.keys() - seen:
            wrong("lost", f"key {key} is not there")
        return verdict


class ChangeLoad(AvroLoad):
    """Writes changes with their keys."""

    def record(self, partition, sequence):
        world = self._world
        key, row = world.key(partition, sequence).encode(), world.change(partition, sequence)
        value = None if row is None else world.rows.value_of(world.schema_id, row)
        return world.out, value, key
