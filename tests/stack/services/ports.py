"""Free ports on the loopback address."""

import random
import socket

LOOPBACK = "127.0.0.1"

# Below Linux's ephemeral range (32768 and up): while a service is down its port then cannot be taken by somebody's
# outgoing connection, nor can a client that retries a loopback port connect to itself.
_RANGE = range(20000, 32000)


def free(names, wanted=None):
    """A port that nobody listens on now for each name: the one that is wanted for it if that is free, else any."""
    found = {name: port for name, port in (wanted or {}).items() if name in names and _is_free(port)}
    rest = [name for name in names if name not in found]
    for port in random.sample(_RANGE, len(_RANGE)):
        if not rest:
            return found
        if _is_free(port):
            found[rest.pop()] = port
    count = len(names)
    raise SystemExit(f"stack: no {count} free ports between {_RANGE.start} and {_RANGE.stop}")


def _is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
