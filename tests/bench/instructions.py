"""Instructions per record of each microbenchmark of benches/record.rs, counted by valgrind: unlike times, they are the same
on a busy machine.

    make instructions

Each benchmark runs twice with different numbers of records; the difference, by record, leaves out whatever is done once.
Prints a table in Markdown. Needs valgrind.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

# Of 10,000 records each (BATCH in benches/record.rs).
FEW, MANY, RECORDS = 2, 12, 100_000
NAMES = ["json_parser_alone", "json_parser_into_values", "decode", "lookup_tree", "lookup_tree_maxminddb", "lookup_warm",
         "lookup_cold", "encode", "encode_apache_avro", "whole", "whole_general", "general_unfiltered", "general_filter_of_half"]


def executable() -> str:
    """The built benchmark."""
    out = subprocess.run(["cargo", "bench", "--locked", "--bench", "record", "--no-run", "--message-format=json"],
                         check=True, stdout=subprocess.PIPE, text=True).stdout
    found = [json.loads(line).get("executable") for line in out.splitlines() if '"executable":"' in line]
    return found[-1]


def count(program: str, name: str, samples: int) -> int:
    """Instructions of a run of one benchmark."""
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, "--bench", "--exact", f"record::{name}",
         "--sample-count", str(samples), "--sample-size", "1"], capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        raise SystemExit(f"valgrind of {name} failed:\n{done.stderr[-2000:]}")
    return int(found[1])


def main() -> int:
    if not shutil.which("valgrind"):
        print("valgrind is missing: install it", file=sys.stderr)
        return 1
    program = executable()
    jobs = [(name, samples) for name in NAMES for samples in (FEW, MANY)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = dict(zip(jobs, pool.map(lambda job: count(program, *job), jobs)))
    print("| benchmark | instructions per record |\n|---|---:|")
    for name in NAMES:
        print(f"| `{name}` | {(counts[name, MANY] - counts[name, FEW]) / RECORDS:,.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
