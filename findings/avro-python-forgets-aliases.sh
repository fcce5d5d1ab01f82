#!/usr/bin/env bash
# Guess:     A reader's field with an alias takes the value of the writer's field of that name, as the specification and Java have
#            it; a library that knows no aliases would refuse.
# Happens:   Apache's Python library knows none. A renamed field that has a default, as compatible schemas must, is the default in
#            every record, and the value that was sent is skipped without a word. fastavro and npm's avsc give the value.
# Versions:  avro 1.12.2, fastavro 1.13.1 (PyPI), avsc 5.7.9 (npm)
# pressline: reads each record by the schema it was written with and resolves against no other, so a renamed field is never lost
#            this way: it is a field of another name, which the table lacks, and is told as that.
set -euo pipefail
. "$(dirname "$0")/common.sh"

pip_install avro==1.12.2 fastavro==1.13.1
npm_install avsc@5.7.9
run_python <<'END'
import io, json, subprocess
from importlib.metadata import version

import avro.io, avro.schema, fastavro

print("avro", version("avro"), "fastavro", version("fastavro"))
WRITER = {"type": "record", "name": "Order", "fields": [{"name": "rebate", "type": "int"}]}
READER = {"type": "record", "name": "Order", "fields": [
    {"name": "discount", "aliases": ["rebate"], "type": ["null", "int"], "default": None},
]}
out = io.BytesIO()
fastavro.schemaless_writer(out, WRITER, {"rebate": 70})
datum = out.getvalue()
print("sent: rebate 70")
print("fastavro:", fastavro.schemaless_reader(io.BytesIO(datum), WRITER, READER))
reader = avro.io.DatumReader(*(avro.schema.parse(json.dumps(schema)) for schema in (WRITER, READER)))
print("avro:", reader.read(avro.io.BinaryDecoder(io.BytesIO(datum))))
program = """
const avro = require('avsc'), [writer, reader, datum] = process.argv.slice(1);
const to = avro.Type.forSchema(JSON.parse(reader)), from = avro.Type.forSchema(JSON.parse(writer));
console.log('avsc', require('avsc/package.json').version + ':', JSON.stringify(to.fromBuffer(Buffer.from(datum, 'hex'), to.createResolver(from))));
"""
print(subprocess.check_output(["node", "-e", program, json.dumps(WRITER), json.dumps(READER), datum.hex()], text=True), end="")
END
as_stated <<'END'
avro 1.12.2 fastavro 1.13.1
sent: rebate 70
fastavro: {'discount': 70}
avro: {'discount': None}
avsc 5.7.9: {"discount":70}
END
