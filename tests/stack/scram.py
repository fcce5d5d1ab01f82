#!/usr/bin/env python3
"""Gives a user of the test broker a password, which is read from standard input.

    scram.py --bootstrap-server HOST:PORT --user NAME < PASSWORD
"""

import argparse
import sys

from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap-server", required=True)
    parser.add_argument("--user", required=True)
    arguments = parser.parse_args()
    how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
    change = UserScramCredentialUpsertion(arguments.user, how, password=sys.stdin.buffer.read())
    admin = AdminClient({"bootstrap.servers": arguments.bootstrap_server})
    for future in admin.alter_user_scram_credentials([change], request_timeout=30).values():
        future.result(30)


if __name__ == "__main__":
    main()
