#!/usr/bin/env bash
# Guess:     A decimal with fewer digits after the point than the schema's scale is brought to that scale: 5 is 5.00.
# Happens:   Apache's own Python library writes the digits as they stand and lets the schema's scale put the point: 5 becomes 0.05,
#            1E+3 becomes 0.01. Only values with exactly the scale's digits are right. No error and no warning, for bytes and fixed,
#            and all readers, itself included, agree on the wrong value. fastavro rescales.
# Versions:  avro 1.12.2, fastavro 1.13.1 (PyPI)
# pressline: cannot know that the amount was another; it hands the value on as the bytes say. Its own encoder rescales, and is
#            compared with another library.
set -euo pipefail
. "$(dirname "$0")/common.sh"

pip_install avro==1.12.2 fastavro==1.13.1
run_python <<'END'
import io, json
from decimal import Decimal
from importlib.metadata import version

import avro.io, avro.schema, fastavro

print("avro", version("avro"), "fastavro", version("fastavro"))
TYPE = {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}
parsed = avro.schema.parse(json.dumps(TYPE))


def by_avro(value):
    out = io.BytesIO()
    avro.io.DatumWriter(parsed).write(value, avro.io.BinaryEncoder(out))
    return out.getvalue()


def by_fastavro(value):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, TYPE, value)
    return out.getvalue()


for amount in ("12.50", "5", "5.5", "1E+3"):
    read = [fastavro.schemaless_reader(io.BytesIO(write(Decimal(amount))), TYPE) for write in (by_avro, by_fastavro)]
    print(f"{amount}: written by avro {read[0]}, by fastavro {read[1]}")
print("read back by avro itself:", avro.io.DatumReader(parsed).read(avro.io.BinaryDecoder(io.BytesIO(by_avro(Decimal("5"))))))
END
as_stated <<'END'
avro 1.12.2 fastavro 1.13.1
12.50: written by avro 12.50, by fastavro 12.50
5: written by avro 0.05, by fastavro 5.00
5.5: written by avro 0.55, by fastavro 5.50
1E+3: written by avro 0.01, by fastavro 1000.00
read back by avro itself: 0.05
END
