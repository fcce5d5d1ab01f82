"""Free ports on the loopback address."""

import random
import socket

LOOPBACK = "127.0.0.1"

# Below Linux's ephemeral range (32768 and up): while a service is down its port then cannot be taken by somebody's
# outgoing connection, nor can a client that retries a loopback port connect to itself.
_RANGE = range(20000, 32000)


def free(count):
    """`count` different ports that nobody listens on now."""
    found = []
    for port in random.sample(_RANGE, len(_RANGE)):
        if _is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise SystemExit(f"stack: no {count} free ports between {_RANGE.start} and {_RANGE.stop}")


def _is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
