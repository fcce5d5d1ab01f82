"""The rows of a load's world: what each record of the Avro topic holds, and so what must stand in the tables.

A record's session id tells its partition and sequence, and there its sequence is its offset. Nothing here comes from
pressline's code: the schema file is read by fastavro.
"""

import io
import json
import random
import urllib.request

import fastavro

from tests.harness.checker import session_id
from tests.harness.paths import ROOT

SCHEMA_FILE = ROOT / "schemas" / "button_presses.avsc"
FIELDS = [field["name"] for field in json.loads(SCHEMA_FILE.read_text())["fields"]]
ACTIONS = ("EnterPage", "PressButton", "ExitPage")
# The tables of these worlds refuse a cohort from here on, by a CHECK that the schema knows nothing of.
COHORT_LIMIT = 50
_BASE_US = 1_750_000_000_000_000
_MONTH_US = 31 * 86_400_000_000
_PLACES = (
    ("Finland", "FI", "Uusimaa", "18", "Helsinki", "Europe/Helsinki"),
    ("Åland Islands", "AX", "", "", "Mariehamn", "Europe/Mariehamn"),
    ("Japan", "JP", "東京都", "13", "千代田区", "Asia/Tokyo"),
    ("Côte d'Ivoire", "CI", "Abidjan", "AB", "Cocody 🌴", "Africa/Abidjan"),
    ("United States", "US", "O'Brien\tCounty\n", "IA", 'Say "Hi"\\N', "America/Chicago"),
    ("", "--", "", "", "", None),
)
_SPARSE, _DENSE = 4999, 97


def _plain(schema):
    """The schema without logical types, so that fastavro takes and gives numbers and texts as they are written."""
    for field in schema["fields"]:
        if isinstance(field["type"], dict):
            field["type"] = field["type"]["type"]
    return fastavro.parse_schema(schema)


_SCHEMA = _plain(json.loads(SCHEMA_FILE.read_text()))


class Rows:
    """The rows of one run. `dense`: one in 97 is refused by the tables, else one in 4,999; `padding`: characters that
    make a row's city longer and cannot be compressed away."""

    def __init__(self, run, dense=False, padding=0):
        self.run, self.padding = run, padding
        self._every = _DENSE if dense else _SPARSE

    def is_bad(self, partition, sequence):
        """Whether the tables refuse this one."""
        return (sequence + 1000 * partition) % self._every == self._every - 1

    def fields(self, partition, sequence):
        """All fields, as the schema has them."""
        number = sequence * 4 + partition
        country, code, subdivision, subdivision_code, city, zone = _PLACES[number % len(_PLACES)]
        known = code != "--"
        cohort = COHORT_LIMIT + 1 if self.is_bad(partition, sequence) else sequence % 5 or None
        if self.padding:
            # A digit at a time would take the harness more than all else together.
            city += random.Random(number).randbytes(self.padding // 2).hex()
        return {
            "session_id": session_id(self.run, partition, sequence),
            # In turn in three months, so that an insert spans partitions of the tables.
            "timestamp": _BASE_US + sequence + sequence % 3 * _MONTH_US,
            "cohort": cohort,
            "action": ACTIONS[sequence % 3],
            "country_name": country,
            "country_code": code,
            "subdivision_name": subdivision,
            "subdivision_code": subdivision_code,
            "city_name": city,
            "latitude": (number * 37 % 180_000) / 1000 - 90 if known else None,
            "longitude": (number * 73 % 360_000) / 1000 - 180 if known else None,
            "accuracy_km": number % 1000 if known else None,
            "time_zone": zone,
        }

    def value(self, schema_id, partition, sequence):
        """The record's value in the Confluent wire format."""
        return self.value_of(schema_id, self.fields(partition, sequence))

    @staticmethod
    def value_of(schema_id, fields):
        """The same of these fields."""
        out = io.BytesIO()
        out.write(b"\0" + schema_id.to_bytes(4, "big"))
        fastavro.schemaless_writer(out, _SCHEMA, fields)
        return out.getvalue()


def register(registry, topic):
    """Registers the schema file for the topic's values; the schema's id."""
    request = urllib.request.Request(
        f"{registry}/subjects/{topic}-value/versions",
        json.dumps({"schema": SCHEMA_FILE.read_text()}).encode(),
        {"Content-Type": "application/vnd.schemaregistry.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["id"]
