"""Reads the table that tests/postgres/independent.rs has written and compares each value with what it must be here.

python3 -m tests.harness.read_types SCHEMA.TABLE, with the server in PRESSLINE_TEST_POSTGRES and its siblings. Exit code 1 when one differs.
"""

import os
import sys
from datetime import date, datetime, time, timezone
from decimal import Decimal
from uuid import UUID

import psycopg

EXPECTED = {
    "flag": (True, False),
    "small": (-32768, 32767),
    "big": (-(2**63), 2**63 - 1),
    "single": (1.5, -0.25),
    "exact": (63.43, -1e300),
    "price": (Decimal("-1234567.890"), Decimal("0.001")),
    "note": ("Trøndelag 🐟 '\\", ""),
    "mood": ("sad", "ok"),
    "raw": (b"\x00\xff\\\n", b""),
    "id": (UUID(int=1), UUID(int=2**128 - 1)),
    "day": (date(1969, 12, 31), date(2026, 1, 1)),
    "at_time": (time(23, 59, 59, 999999), time(0)),
    "instant": (
        datetime(2026, 1, 1, 0, 0, 0, 123456, timezone.utc),
        datetime(1969, 12, 31, 23, 59, 59, 999999, timezone.utc),
    ),
    "wall": (datetime(2026, 1, 1, 0, 0, 0, 123456), datetime(1969, 12, 31, 23, 59, 59, 999999)),
    "words": (["a", 'b,"c'], []),
    "pairs": ({'k"': 7}, {}),
    "maybe": (-1, None),
}


def main(table):
    host, _, port = os.environ["PRESSLINE_TEST_POSTGRES"].rpartition(":")
    names = {"user": "USER", "password": "PASSWORD", "dbname": "DATABASE"}
    login = {key: os.environ[f"PRESSLINE_TEST_POSTGRES_{name}"] for key, name in names.items()}
    with psycopg.connect(host=host, port=port, **login) as database:
        rows = database.execute(f"SELECT {', '.join(EXPECTED)} FROM {table} ORDER BY number").fetchall()
    if len(rows) != 2:
        return f"{len(rows)} rows, expected 2"
    wrong = []
    for index, row in enumerate(rows):
        for (column, values), found in zip(EXPECTED.items(), row):
            # The type counts as well: True == 1 and Decimal(1) == 1.
            if (type(found), found) != (type(values[index]), values[index]):
                wrong.append(f"row {index}, {column}: {found!r}, expected {values[index]!r}")
    if not wrong:
        print(f"{2 * len(EXPECTED)} values agree")
    return "\n".join(wrong) or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
