"""The web app, visited from many addresses: nothing that it answers, shows, logs, counts or asks may hold one.

Three web apps stand on one stage, each behind a proxy that is trusted: with the statistics of ClickHouse, of PostgreSQL, and of
memory; a fourth has no broker. Visitors come, press, look at every page, and put their address wherever a request has room for
it. The raw topic, where the addresses belong, must hold each in its field and nowhere else.
"""

import ipaddress
import json
import re
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from tests.harness.stack import service
from tests.harness.visitor import Visitor, Watcher
from tests.harness.waiting import PATIENCE, await_that
from tests.leaks import records
from tests.leaks.capture import PAGES
from tests.leaks.search import Searcher, report
from tests.leaks.stage import Stage

_THREADS = 16
_STRANGERS = 40  # who find no broker
_SITES = (("clickhouse", "x_forwarded_for"), ("postgres", "forwarded"), ("memory", "x_forwarded_for"))
_HEADERS = {"x_forwarded_for": "X-Forwarded-For", "forwarded": "Forwarded"}
# Where a visitor may put an address that is no proxy's word.
_ODD = (
    lambda visitor, address: visitor.ask("GET", "/stats"),
    lambda visitor, address: visitor.ask("GET", "/stats/numbers"),
    lambda visitor, address: visitor.ask("GET", "/live"),
    lambda visitor, address: visitor.ask("GET", "/about"),
    lambda visitor, address: visitor.ask("GET", "/assets/cohorts.css"),
    lambda visitor, address: visitor.ask("GET", f"/{address}"),
    lambda visitor, address: visitor.ask("GET", f"/reset?{address}"),
    lambda visitor, address: visitor.ask("HEAD", f"/?from={address}"),
    lambda visitor, address: visitor.ask("PUT", "/", body=f"ip={address}"),
    lambda visitor, address: visitor.ask("POST", "/", body=f'{{"ip":"{address}"}}', Content_Type="application/json"),
    lambda visitor, address: visitor.ask("POST", "/", Origin=f"http://[{address}]"),
    lambda visitor, address: visitor.ask("POST", "/", Sec_Fetch_Site="cross-site", Referer=f"http://{address}/"),
    lambda visitor, address: visitor.ask("POST", "/reset", User_Agent=f"Mozilla ({address})"),
    lambda visitor, address: visitor.ask("GET", "/", Cookie=f"pressline={address}", Sec_Purpose="prefetch"),
    lambda visitor, address: visitor.ask("GET", "/stats", Cookie=f"pressline={visitor.session_id}.0.{address}"),
    lambda visitor, address: visitor.ask("GET", "/about", Host=address, Via=f"1.1 {address}", X_Real_IP=address),
    lambda visitor, address: visitor.ask("GET", "/about", Accept=address, Accept_Language=address, X_Forwarded_Proto=address),
)


class Site:
    """A web app of the stage, and all that came out of it."""

    def __init__(self, stage, store, header, environment=None, **settings):
        own = {
            "kafka.bootstrap_servers": service("BOOTSTRAP"),
            "web.listen": "127.0.0.1:0",
            "web.metrics_listen": "127.0.0.1:0",
            "web.trusted_proxies": '["127.0.0.1"]',
            "web.proxy_header": header,
            "web.store": store,
        }
        self.process = stage.start_web(environment, **(own | settings))
        self._header = _HEADERS[header]
        await_that("a web app", self._ports, PATIENCE)
        self.port, self._metrics_port = self._ports()
        self._heads, self._bodies, self._metrics = [], [], []
        self._watchers = []
        self.sessions = set()

    def _ports(self):
        if self.process.process.poll() is not None:
            raise RuntimeError(f"a web app ended, see {self.process.log_file}")
        found = re.search(r"the button is on http://127\.0\.0\.1:(\d+)/, metrics on http://127\.0\.0\.1:(\d+)/", self.process.log())
        return found and (int(found[1]), int(found[2]))

    def visit(self, number, address):
        """A visitor's first page, two presses, and something odd."""
        visitor = Visitor(self.port, _told(number, address, self._header), self._header)
        answers = [visitor.visit(), visitor.press(), visitor.press()]
        if visitor.cookie:
            self.sessions.add(visitor.session_id)
            answers.append(_ODD[number % len(_ODD)](visitor, address))
        visitor.close()
        self.keep(answers)
        return [answer.status for answer in answers]

    def watch(self, address):
        """Somebody who watches from an address, and says it instead of an event's id."""
        self._watchers.append(Watcher(self.port, last=address, address=address))
        self._watchers.append(Watcher(self.port, query=address, address=address))

    def look_at_statistics(self, number):
        """The page, by this many who have pressed; how many found their own presses."""
        found = 0
        for session in sorted(self.sessions)[:number]:
            visitor = Visitor(self.port)
            visitor.cookie = f"pressline={session}.0.2"
            answers = [visitor.ask("GET", path) for path in ("/stats", "/stats/numbers", "/live")]
            visitor.close()
            self.keep(answers)
            found += "of your presses have come through" in answers[0].body
        return found

    def keep(self, answers):
        """Answers to be searched."""
        self._heads += [answer.head.encode() for answer in answers]
        self._bodies += [answer.body.encode(errors="surrogateescape") for answer in answers]

    def read_pages(self):
        """Metrics and health."""
        for page in PAGES:
            with suppress(urllib.error.HTTPError):
                with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}{page}", timeout=10) as answer:
                    self._metrics.append(str(answer.headers).encode() + answer.read())

    def end(self):
        """Ends it; what is wrong with that."""
        self.read_pages()
        for watcher in self._watchers:
            watcher.close()
        return [] if (code := self.process.terminate()) == 0 else [f"a web app ended with {code}"]

    def captures(self):
        """Name → bytes."""
        events = b"\n".join(watcher.content() for watcher in self._watchers)
        found = {"heads": self._heads, "bodies": self._bodies, "events": [events], "metrics": self._metrics}
        return {name: self._without_sessions(b"\n".join(parts)) for name, parts in found.items()}

    def _without_sessions(self, content):
        """The eight digits that are shown of a session's id may be an address's by chance; only those of known ones go."""
        known = {session[:8].encode() for session in self.sessions}
        shown = rb'(session_id(?:"|&#34;):(?:"|&#34;))([0-9a-f]{8})(?=\xe2\x80\xa6)'
        return re.sub(shown, lambda found: found[1] if found[2] in known else found[0], content)


def _told(number, address, header):
    """An address as proxies write it."""
    v6 = ":" in address
    if header == "Forwarded":
        return address
    ways = [address, f"10.1.2.3, {address}", f"[{address}]:4711" if v6 else f"{address}:4711"]
    ways += [ipaddress.ip_address(address).exploded.upper() if v6 else f"::ffff:{address}"]
    return ways[number % len(ways)]


def sound(arguments):
    """What is wrong with a web app that does not leak on purpose."""
    addresses = records.canaries(max(100, arguments.addresses // 50), records.networks(), arguments.seed + 1)
    strangers, addresses = addresses[:_STRANGERS], addresses[_STRANGERS:]
    with ThreadPoolExecutor(1) as pool, Stage("web", batch=500) as stage:
        searching = pool.submit(Searcher, strangers + addresses)
        relay = stage.start()
        sites = [Site(stage, *site) for site in _SITES]
        lonely = Site(stage, "memory", "x_forwarded_for", **{"kafka.bootstrap_servers": "127.0.0.1:9"})
        statuses = _come(sites, lonely, addresses, strangers)
        inputs = stage.count([stage.raw])
        # It looks at the process that was started last.
        stage.processes.append(relay)
        stage.await_settled(inputs)
        stage.processes.pop()
        failures = _raw_failures(stage, addresses)
        for site, (store, _) in zip(sites, _SITES):
            found = site.look_at_statistics(20)
            failures += [] if found == 20 else [f"{store}: of 20 sessions {found} found their presses"]
        for process in (relay, *(site.process for site in sites)):
            stage.remember_proc(process)
        failures += [failure for site in (*sites, lonely) for failure in site.end()]
        if (code := relay.terminate()) != 0:
            failures.append(f"the relay ended with {code}")
        failures += [f"a core dump: {name}" for name in stage.core_files()]
        searcher = searching.result()
        print(f"{len(addresses):,} visitors, {inputs:,} raw records, answers by status: {dict(sorted(statuses.items()))}", flush=True)
        captures = {f"{name} of site {number}": content for number, site in enumerate((*sites, lonely)) for name, content in site.captures().items()}
        captures = stage.captures() | captures | {"raw records but for their addresses": _raw_without_addresses(stage)}
        failures += report(searcher, captures)
        # No geocoder's answer is asked for twice, and nothing writes files.
        may_be_empty = ("files", "geocoder", "offsets", f"events of site {len(sites)}")
        failures += [f"nothing was captured: {name}" for name, content in captures.items() if not (content or name.startswith(may_be_empty))]
        if captures["files"]:
            failures.append(f"pressline wrote files: {captures['files'][:100]}")
        if failures:
            stage.keep = True
            failures.append(f"logs in {stage.folder}")
    return failures


def _come(sites, lonely, addresses, strangers):
    """All visitors; their answers by status."""
    for site, address in zip(sites, addresses):
        site.watch(address)
    with ThreadPoolExecutor(_THREADS + len(strangers)) as pool:
        waiting = [pool.submit(lonely.visit, number, address) for number, address in enumerate(strangers)]
        coming = [pool.submit(sites[number % len(sites)].visit, number, address) for number, address in enumerate(addresses)]
        statuses = Counter(status for visit in coming for status in visit.result(PATIENCE))
        alone = Counter(status for visit in waiting for status in visit.result(PATIENCE))
    if set(alone) != {503}:
        raise RuntimeError(f"without a broker the page answers {alone}")
    for site, address in zip(sites, addresses):
        site.watch(address)
        site.read_pages()
    time.sleep(1)
    return statuses


def _raw_failures(stage, addresses):
    """Whether the raw topic has each visitor's events with the visitor's address."""
    found = Counter()
    for message in stage.read([stage.raw], committed=False):
        value = json.loads(message.value())
        found[str(ipaddress.ip_address(value["ip"])), value["action"]] += 1
    lacking = [address for address in addresses if not (found[address, "EnterPage"] == 1 and found[address, "PressButton"] >= 2)]
    strange = {address for address, _ in found} - set(addresses)
    failures = [f"{len(lacking)} visitors' events are not in the raw topic"] if lacking else []
    return failures + ([f"{len(strange)} addresses in the raw topic are no visitor's"] if strange else [])


def _raw_without_addresses(stage):
    """The raw records as they stand, with nothing where their addresses belong."""
    parts = []
    for message in stage.read([stage.raw], committed=False):
        value, removed = re.subn(rb'"ip":"[^"]*"', b'"ip":""', message.value(), count=1)
        parts += [message.key() or b"", value if removed else message.value()]
        parts += [part for name, content in message.headers() or () for part in (name.encode(), content or b"")]
    return b"\n".join(parts)


def leaking(arguments):
    """Places of a leak on purpose that were not found."""
    addresses = records.canaries(30, [], arguments.seed + 2)
    with Stage("web-leaking", batch=500) as stage:
        site = Site(stage, "memory", "x_forwarded_for", environment={"PRESSLINE_MUTANT": "web_leak"})
        for address in addresses:
            site.watch(address)
        for number, address in enumerate(addresses):
            site.visit(number, address)
        time.sleep(1)
        site.end()
        files = {"log": site.process.log_file, "files": stage.home / "leaked"}
        captures = site.captures() | {name: path.read_bytes() for name, path in files.items()}
        searcher = Searcher(addresses)
    missed = []
    for name, content in captures.items():
        caught = {hit.address for hit in searcher.find(content)}
        print(f"{name}: {len(caught)} of {len(addresses)} leaks on purpose were found", flush=True)
        missed += [] if caught == set(addresses) else [f"{name}: {len(addresses) - len(caught)} leaks were not found"]
    return missed
