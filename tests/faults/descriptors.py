"""The process runs out of file descriptors because of its HTTP side."""

import resource
import socket
import time
import urllib.request
from pathlib import Path

from tests.harness.waiting import Failure, await_that

# As many connections as a process may get, none of which ever sends its headers.
SETTINGS = {"http.max_connections": 100_000, "http.header_timeout_ms": 600_000}
# Descriptors left to the process beyond those it has when it is at work.
_SPARE = 20
# Fewer than the backlog of its listener holds, so that all can connect (200 could not).
_CROWD = 100
# Seconds of load while there are none left.
_DROUGHT = 4


def exhausted(world, times, random):
    """Idle clients take all descriptors of an instance: events go on meanwhile, and its pages are there again after."""
    pair = world.start_pair()
    for _ in range(times):
        victim = pair[random.choice("ab")]
        await_that("its pages", lambda: victim.ready()[0] == 200)
        refused = victim.log().count("cannot accept an HTTP connection")
        limit = len(_descriptors(victim)) + _SPARE
        resource.prlimit(victim.process.pid, resource.RLIMIT_NOFILE, (limit, _hard_limit(victim)))
        crowd = [_connect(victim.address()) for _ in range(_CROWD)]
        try:
            await_that(
                "it to be out of descriptors",
                lambda: len(_descriptors(victim)) >= limit
                and victim.log().count("cannot accept an HTTP connection") > refused,
            )
            _flow_for(world, _DROUGHT)
            if len(_descriptors(victim)) < limit:
                raise Failure(f"it had descriptors to spare all the while: {len(_descriptors(victim))} of {limit}")
        finally:
            for client in crowd:
                client.close()
        begun = time.monotonic()
        await_that("its pages to be there again", lambda: "pressline_records_in_total" in _metrics(victim), 30, 0.2)
        world.recovered(begun)


def _flow_for(world, seconds):
    """Events sent meanwhile come out meanwhile, those of every partition."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        world.flow(10)
        time.sleep(0.2)


def _descriptors(instance):
    return list(Path(f"/proc/{instance.process.pid}/fd").iterdir())


def _hard_limit(instance):
    return resource.prlimit(instance.process.pid, resource.RLIMIT_NOFILE)[1]


def _connect(address):
    try:
        client = socket.create_connection(address, timeout=10)
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
    except OSError as error:
        raise Failure(f"its pages are gone: {error}") from None
    return client


def _metrics(instance):
    host, port = instance.address()
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""
