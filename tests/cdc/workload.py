"""A random workload: inserts, updates, changed keys, deletes and truncates in transactions of up to 20 changes, some of which are
rolled back. Beside them, a table without a key."""

from tests.cdc.tables import DOCUMENTS, KEYLESS, LACKING, ORDERS, SOURCE, TABLES, connect, random_uuid


class Workload:
    """The rows' keys as the source has them."""

    def __init__(self, chance):
        self._chance = chance
        self._keys = {table.name: [] for table in [*TABLES, LACKING]}
        self._next = 0
        self.counts = dict.fromkeys(["insert", "update", "key", "delete", "truncate"], 0)

    def run(self, changes):
        """So many changes."""
        with connect(SOURCE, autocommit=False) as database:
            while changes > 0:
                size = min(self._chance.randint(1, 20), changes)
                before = {name: list(keys) for name, keys in self._keys.items()}
                with database.cursor() as cursor:
                    for _ in range(size):
                        self._change(cursor, self._chance.choice([*TABLES, LACKING]))
                        if self._chance.random() < 0.2:
                            self._change_keyless(cursor)
                if self._chance.random() < 0.05:
                    database.rollback()
                    self._keys = before
                else:
                    database.commit()
                    changes -= size

    def _change(self, cursor, table):
        keys = self._keys[table.name]
        # Few keys, so that each is changed often.
        what = "insert" if len(keys) < 20 else self._chance.choices(list(self.counts), [25, 45, 10, 19.7, 0.3])[0]
        what = "update" if what == "key" and table is LACKING else what
        self.counts[what] += 1
        same = " AND ".join(f"{name} = %s" for name in table.key)
        if what == "insert":
            key = self._new_key(table)
            columns = ", ".join("%s" for _ in table.columns)
            cursor.execute(f"INSERT INTO {table.name} VALUES ({columns})", table.random_row(self._chance, key))
            keys.append(key)
            return
        if what == "truncate":
            cursor.execute(f"TRUNCATE {table.name}")
            keys.clear()
            return
        key = keys.pop(self._chance.randrange(len(keys)))
        if what == "delete":
            cursor.execute(f"DELETE FROM {table.name} WHERE {same}", key)
            return
        new = self._new_key(table) if what == "key" else key
        names = list(table.columns)
        row = dict(zip(names, table.random_row(self._chance, new), strict=True))
        # A long value that stays as it is is not in the log.
        some = self._chance.sample(names[len(table.key) :], self._chance.randint(1, len(names) - len(table.key)))
        changed = [*table.key, *some]
        values = ", ".join(f'"{name}" = %s' for name in changed)
        cursor.execute(f"UPDATE {table.name} SET {values} WHERE {same}", [*(row[name] for name in changed), *key])
        keys.append(new)

    def _change_keyless(self, cursor):
        a, b = KEYLESS.random_row(self._chance, [])
        a, b = a and a % 100, b and b[:20]
        match self._chance.choices(["insert", "update", "delete", "truncate"], [60, 20, 19, 1])[0]:
            case "insert":
                cursor.execute("INSERT INTO unkeyed VALUES (%s, %s)", [a, b])
            case "update":
                cursor.execute("UPDATE unkeyed SET b = %s WHERE a = %s", [b, a])
            case "delete":
                cursor.execute("DELETE FROM unkeyed WHERE a = %s", [a])
            case _:
                cursor.execute("TRUNCATE unkeyed")

    def _new_key(self, table):
        self._next += 1
        if table is DOCUMENTS:
            return (random_uuid(self._chance),)
        if table is ORDERS:
            return (self._chance.choice(["north", "söuth"]), self._next)
        return (self._next,)
