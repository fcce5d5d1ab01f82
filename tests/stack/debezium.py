#!/usr/bin/env python3
"""Runs Debezium's PostgreSQL connector in Kafka Connect, standalone, until it is ended: the stack's PostgreSQL → its Kafka.

    eval "$(tests/stack/stack.py env)"      the addresses, after `make stack-up`
    tests/stack/debezium.py inventory --tables public.orders,public.customers [--format avro] [name=value ...]

The name is the topics' prefix, the replication slot and the publication, too: table public.orders goes to topic
inventory.public.orders. Formats are avro (through the registry), connect_json (JSON with its schema) and json (without). Further
words are settings of the connector, such as heartbeat.interval.ms=1000. Offsets and log lie in the folder of the stack, so that
it goes on where it was.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from services.debezium import FORMATS, Connector, Debezium
from services.process import Failed


def main():
    """Runs until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="prefix of the topics")
    parser.add_argument("--tables", required=True, help="schema.table, several with commas between")
    parser.add_argument("--format", choices=FORMATS, default="avro")
    parser.add_argument("--database", help="unless it is that of the tests")
    parser.add_argument("settings", nargs="*", metavar="name=value")
    given = parser.parse_args()
    if "PRESSLINE_TEST_STACK" not in os.environ:
        parser.error('no addresses: eval "$(tests/stack/stack.py env)"')
    folder = Path(os.environ["PRESSLINE_TEST_STACK"]).parent
    more = dict(setting.split("=", 1) for setting in given.settings)
    connect = Debezium(folder, Connector(given.name, given.tables.split(","), given.format, given.database, **more))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        connect.launch()
        connect.await_ready()
        print(f"follows {given.tables} into topics {given.name}.SCHEMA.TABLE; log: {connect.log}", flush=True)
        while connect.pid() is not None:
            time.sleep(0.5)
        return 1
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        connect.stop()


if __name__ == "__main__":
    sys.exit(main())
