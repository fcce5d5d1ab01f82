"""The same for a pipeline of transforms: addresses in a field of another name and in a record, two lookups, a filter, a route.

What a field holds that is no address by the pipeline file goes where the file says, so its filter lets no record through whose
plain fields hold anything but what they should.
"""

import json

from tests.harness.paths import ROOT
from tests.leaks import records
from tests.leaks.stage import Stage

_LAST_US = 1_900_000_000_000_000
_TRANSFORMS = """
[source.fields]
session_id = "uuid"
timestamp = "timestamp-micros"
cohort = "int?"
action = "string"
visitor = "string?"
client = { agent = "string", address = "string?" }

[[transforms]]
filter = '''
action in ["EnterPage", "PressButton", "ExitPage"] && client.agent == "till" && timestamp >= BASE && timestamp < LAST &&
(cohort == null || cohort < 10 && cohort >= 0)'''

[[transforms]]
enrich = "visitor"

[[transforms]]
enrich = "client.address"
prefix = "client_"
fields = ["country_code", "city_name"]

[[transforms]]
route = 'action == "ExitPage"'
topic = "ROUTED"

[[transforms]]
rename = { "client.agent" = "agent" }

[[transforms]]
drop = ["client", "visitor"]
"""


class TransformsStage(Stage):
    """A stage with such a pipeline; what is not routed goes into both tables."""

    def __init__(self, name, **more):
        super().__init__(name, **more)
        self.routed = f"{self.name}-routed"
        self.without_column = ["client_country_code", "client_city_name", "agent"]

    def outputs(self):
        return [*super().outputs(), self.routed]

    def _pipeline(self):
        changed = _TRANSFORMS.replace("BASE", str(records.BASE_US)).replace("LAST", str(_LAST_US))
        text = super()._pipeline()
        for old, new in (
            ("[source]\n", '[source]\nformat = "json"\n'),
            ("[output]\n", changed.replace("ROUTED", self.routed) + '[output]\nkey = "session_id"\n'),
            (f'schema = "{ROOT}/schemas/button_presses.avsc"\n', ""),
        ):
            assert old in text, old
            text = text.replace(old, new)
        return text

    def send(self, made):
        super().send(map(self._counted, made))

    def _counted(self, record):
        self.filtered += is_filtered(record[1])
        return record


def moved(number, record):
    """The record with its address where this pipeline has it: in a field of another name, or in a record."""
    key, value, headers, time = record
    if value is None:
        return record
    fields = _fields(value)
    if fields is None or value.count(b'"ip":') != 1:
        return key, value.replace(b'"ip":', b'"client":{"agent":"till"},"visitor":'), headers, time
    client = {"agent": "till"}
    (client if number % 2 else fields).update({"address" if number % 2 else "visitor": fields.pop("ip")})
    return key, json.dumps(fields | {"client": client}, separators=(",", ":")).encode(), headers, time


def is_filtered(value):
    """Whether the filter is what stops the record: all its fields have their types, and one a value that it should not."""
    fields = value and _fields(value)
    if not fields or "action" not in fields or len(value) > 20_000:
        return False
    action, timestamp, cohort = (fields.get(name) for name in ("action", "timestamp", "cohort"))
    if not isinstance(action, str) or not _fits(timestamp, 63) or cohort is not None and not _fits(cohort, 31):
        return False
    is_ours = action in records.ACTIONS and records.BASE_US <= timestamp < _LAST_US
    return not (is_ours and (cohort is None or 0 <= cohort < 10))


def _fits(number, bits):
    return isinstance(number, int) and -(1 << bits) <= number < 1 << bits


def _fields(value):
    try:
        fields = json.loads(value)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None
