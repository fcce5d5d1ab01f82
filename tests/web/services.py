"""The web app on real services: Kafka, a relay with both sinks, PostgreSQL and ClickHouse's engine, over links that break.

    tests/stack/stack.py run -- python3 -m tests.web.services
    ... --only statistics                 those with this in their name

Ends with `N passed, M failed`; exit code 1 when anything failed.
"""

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

from tests.harness import interpreter

interpreter.require_packages()

import maxminddb  # noqa: E402

from tests.harness.paths import ROOT  # noqa: E402
from tests.harness.visitor import Visitor, Watcher  # noqa: E402
from tests.harness.waiting import Failure, await_that  # noqa: E402
from tests.web.real import Expected, Real, history, shown  # noqa: E402
from tests.web.stage import BINARY, run_each  # noqa: E402

# Words of the page that a visitor must find.
AWAY = "The database does not answer just now"
NO_KAFKA = "Kafka does not answer"


def expect(holds, what):
    if not holds:
        raise Failure(what)


def equal(found, expected, what):
    expect(found == expected, f"{what}: found {found}, expected {expected}")


def a_press_goes_all_the_way(real):
    """To the raw topic with its address, out of the relay without it, to the map's stream, with partition and offset."""
    app = real.web("memory")
    app.start()
    try:
        watcher = Watcher(app.port)
        before = len(real.raw_records())
        address, spoofed = real.addresses[0], real.addresses[1]
        visitor = Visitor(app.port, f"{spoofed}, {address}")
        equal(visitor.visit().status, 200, "the page")
        for _ in range(3):
            equal(visitor.press().status, 200, "a press")
        equal(visitor.count, 3, "the cookie's count")
        raw = [pair for pair in real.raw_records() if pair[0] == visitor.session_id]
        equal(len(real.raw_records()) - before, 4, "raw records")
        equal(Counter(value["action"] for _, value in raw), {"EnterPage": 1, "PressButton": 3}, "raw actions")
        for _, value in raw:
            equal(value["ip"], address, "the address in the raw topic")
            equal((value["session_id"], value["cohort"]), (visitor.session_id, visitor.cohort), "the raw record")

        def came_out():
            return [record for record in real.out_records() if str(record[2]["session_id"]) == visitor.session_id]

        await_that("the presses come out of the relay", lambda: len(came_out()) == 4)
        expect(not any(address in str(record) for record in came_out()), "the address is in the output topic")
        await_that("the stream counts them", lambda: sum(event.presses() for event in watcher.events()) >= 3)
        partition, offset, value = max(came_out(), key=lambda record: record[1])
        shown_records = [record for event in watcher.events() for record in event.data["r"]]
        (record,) = [r for r in shown_records if (r["partition"], r["offset"]) == (partition, offset)]
        expect(record["value"]["session_id"] == visitor.session_id[:8] + "\u2026", f"the session's id is shown: {record}")
        names = ("country_name", "country_code", "subdivision_name", "city_name", "latitude", "longitude", "cohort", "action")
        equal({name: record["value"][name] for name in names}, {name: value[name] for name in names}, "the record on the page")
        positions = dict(pair.split(":") for pair in watcher.events()[-1].id.split())
        equal(int(positions[str(partition)]), offset, "the event's id")
        watcher.close()
    finally:
        app.kill()


def only_own_pages_and_patient_visitors_press(real):
    """What is refused or too quick is answered so, and is not in the topic."""
    app = real.web("memory", **{"web.session_presses_per_minute": 60, "web.proxy_header": "forwarded"})
    app.start()
    try:
        visitor = Visitor(app.port, real.addresses[2], header="Forwarded")
        visitor.visit()
        for more in ({"Sec_Fetch_Site": "cross-site"}, {"Origin": "https://elsewhere.example"}):
            equal(visitor.ask("POST", "/", **more).status, 403, f"a press with {more}")
            equal(visitor.ask("POST", "/reset", **more).status, 403, f"a reset with {more}")
        began = time.monotonic()
        answers = [visitor.press() for _ in range(14)]
        # Ten at once, and one more a second.
        most = 11 + int(time.monotonic() - began)
        taken = sum(answer.status == 200 for answer in answers)
        expect(10 <= taken <= most, f"{taken} presses were taken, {most} at most should be")
        limited = [answer for answer in answers if answer.status == 429]
        equal(len(limited) + taken, 14, "each press has an answer")
        expect(all(int(answer.header("retry-after")) >= 1 for answer in limited), "when to come back is not said")
        raw = [value for key, value in real.raw_records() if key == visitor.session_id]
        equal(Counter(value["action"] for value in raw), {"EnterPage": 1, "PressButton": taken}, "raw records")
        equal({value["ip"] for value in raw}, {real.addresses[2]}, "the address by Forwarded")
        cookie = visitor.ask("GET", "/", Forwarded="for=192.0.2.1;proto=https").header("set-cookie")
        expect(cookie.endswith("; HttpOnly; SameSite=Lax; Secure"), f"the cookie behind TLS is {cookie}")
        equal(app.metric("pressline_web_events_total"), len(answers) + 1 + 2, "events in the metrics")
    finally:
        app.kill()


def statistics_are_right(real):
    """Of each store, as an oracle reckons them from the topic."""
    for table in real.tables:
        app = real.web(table.name)
        app.start()
        try:
            visitor = _with_presses(real, app)
            records = [value for _, _, value in real.out_records()]
            oracle = Expected([*records, *real.planted])
            real.await_tables(len(records) + len(real.planted))
            found = await_that("fresh numbers", lambda: _numbers_of(visitor, oracle.totals()[0]), 20)
            for name, expected in (
                ("totals", oracle.totals()),
                ("countries", oracle.countries()),
                ("hours", oracle.hours()),
                ("own", oracle.own(visitor.session_id)),
            ):
                equal(found[name], expected, f"{table.name}: {name}")
            expect("You have no session yet" in Visitor(app.port).ask("GET", "/stats").body, "a stranger has numbers")
        finally:
            app.kill()
    app = real.web("memory")
    app.start()
    try:
        visitor = _with_presses(real, app)
        oracle = Expected([value for _, _, value in real.out_records()])
        found = await_that("the presses in memory", lambda: _numbers_of(visitor, oracle.totals()[0]), 20)
        # Of what was pressed long ago it knows when it was written: just now.
        for name in ("totals", "countries", "hours"):
            equal(found[name], getattr(oracle, name)(), f"memory: {name}")
        equal(found["own"][1], 3, "memory: own presses")
    finally:
        app.kill()


def _with_presses(real, app):
    visitor = Visitor(app.port, real.addresses[3])
    visitor.visit()
    for _ in range(3):
        equal(visitor.press().status, 200, "a press")

    def came_out():
        return sum(str(value["session_id"]) == visitor.session_id for _, _, value in real.out_records()) == 4

    await_that("the presses come out of the relay", came_out)
    return visitor


def _numbers_of(visitor, total):
    """What the page shows, once it has all presses. The database is asked every five seconds at most."""
    found = shown(visitor.ask("GET", "/stats/numbers").body)
    return found if found["totals"] and found["totals"][0] == total else None


def statistics_with_a_broken_store(real):
    """The page says so within seconds, the button and the map go on, and the numbers come back by themselves."""
    for table in real.tables:
        link, app = real.links[table.name], real.web(table.name)
        app.start()
        try:
            visitor = Visitor(app.port, real.addresses[4])
            visitor.visit()
            await_that("numbers", lambda: visitor.ask("GET", "/stats").status == 200)
            moved = f"{table.table}_away"
            bare = moved.rpartition(".")[2]
            for what, harm, cure in (
                ("away", link.cut, link.restore),
                ("silent", link.fall_silent, link.restore),
                (
                    "without its table",
                    lambda: table.run_sql(_rename(table, table.table, bare)),
                    lambda: table.run_sql(_rename(table, moved, table.table.rpartition(".")[2])),
                ),
            ):
                harm()
                try:
                    for path in ("/stats", "/stats/numbers"):
                        await_that(f"{table.name} {what}: {path} says so", lambda: visitor.ask("GET", path).status == 503, 20)
                        began = time.monotonic()
                        answer = visitor.ask("GET", path)
                        took = time.monotonic() - began
                        expect(answer.status == 503 and AWAY in answer.body, f"{table.name} {what}: {path} says {answer.body[:200]}")
                        expect(took < 8, f"{table.name} {what}: {path} took {took:.1f} s")
                    began = time.monotonic()
                    equal(visitor.press().status, 200, f"{table.name} {what}: a press")
                    expect(time.monotonic() - began < 4, f"{table.name} {what}: a press waits for the database")
                    equal(visitor.ask("GET", "/live").status, 200, f"{table.name} {what}: the map")
                finally:
                    cure()
                await_that(f"{table.name} {what}: numbers again", lambda: visitor.ask("GET", "/stats").status == 200, 30)
            expect("the statistics cannot be asked for" in app.log(), "the log has no reason")
        finally:
            app.kill()
    app = real.web("none")
    app.start()
    try:
        answer = Visitor(app.port).ask("GET", "/stats")
        expect(answer.status == 200 and "keeps no statistics" in answer.body, f"without a store: {answer.body[:200]}")
    finally:
        app.kill()


def _rename(table, name, new):
    if table.name == "postgres":
        return f"ALTER TABLE {name} RENAME TO {new}"
    return f"RENAME TABLE {name} TO {new}"


def watchers_resume(real):
    """With the last event's id a watcher gets the records that it missed and no others, also of another process."""
    app = real.web("memory")
    app.start()
    try:
        visitor = Visitor(app.port, real.addresses[5])
        visitor.visit()
        await_that("the relay has all", lambda: len(real.out_records()) >= len(real.raw_records()), 180)
        first = Watcher(app.port)
        there = len(real.out_records())
        await_that("the past is read", lambda: app.metric("pressline_web_records_read_total") >= there)

        def press(times):
            for _ in range(times):
                equal(visitor.press().status, 200, "a press")

        def counted(watcher):
            return sum(event.presses() for event in watcher.events() if event.name != "snapshot")

        visitor.close()  # One that is idle is closed by the server, too.
        before = sum(value["action"] == "PressButton" for _, _, value in real.out_records())
        press(5)
        await_that("five presses", lambda: first.total() == before + 5)
        first.close()
        last = first.events()[-1]
        visitor.close()
        press(7)
        await_that("the relay has them", lambda: len(real.out_records()) >= len(real.raw_records()), 180)
        for query in (False, True):
            again = Watcher(app.port, **({"query": last.id} if query else {"last": last.id}))
            await_that("the seven that were missed", lambda: counted(again) == 7)
            _expect_missed(real, last, again.events())
            again.close()
        last = again.events()[-1]
        standing = Watcher(app.port, last=last.id)
        app.stop()
        expect(standing.ended.wait(30), "the stream does not end with the process")
        equal(standing.events(), [], "nothing was missed")
        real.send(history(real.addresses[:5], 77))
        await_that("presses while it was down", lambda: len(real.out_records()) >= len(real.raw_records()), 180)
        app.start()
        visitor.close()
        # At once: it waits until the process has read the past.
        back = Watcher(app.port, last=last.id)
        await_that("what was missed", back.events)
        equal(sum(count for *_, count in back.events()[0].data["p"]), 600, "records that were missed")
        _expect_missed(real, last, back.events())
        press(2)
        await_that("and what comes after", lambda: sum(event.presses() for event in back.events()[1:]) == 2)
        expect(all(event.name == "frame" for event in back.events()[1:]), "a snapshot after what was missed")
        whole = Watcher(app.port)
        await_that("the counts of the hour", lambda: whole.total() == Expected([r[2] for r in real.out_records()]).totals()[0])
        for watcher in (back, whole):
            watcher.close()
    finally:
        app.kill()


def _expect_missed(real, last, events):
    """The first event has the records behind `last`, each once; frames that come behind it are left aside."""
    event, had = events[0], last.positions()
    equal(event.name, "missed", "the first event of who resumes")
    new = event.positions()
    missed = [record for record in real.out_records() if had[record[0]] < record[1] <= new[record[0]]]
    offsets = {}
    for partition, offset, _ in missed:
        offsets.setdefault(partition, []).append(offset)
    ranges = [[partition, min(of), max(of), len(of)] for partition, of in sorted(offsets.items())]
    equal(event.data["p"], ranges, "offsets that were missed")
    presses = [value for _, _, value in missed if value["action"] == "PressButton"]
    equal(event.countries(), Counter(value["country_code"] for value in presses), "countries of what was missed")
    equal(sum(generated for *_, generated in event.data["minutes"]), sum(p["cohort"] is None for p in presses), "generated ones")
    newest = [(record["partition"], record["offset"]) for record in event.data["r"]]
    equal(len(newest), min(8, len(missed)), "newest records")
    expect(set(newest) <= {(partition, offset) for partition, offset, _ in missed}, f"a record that was not missed: {newest}")
    if presses:
        expect(0 < len(event.data["e"]) <= min(100, len(presses)), f"{len(event.data['e'])} presses light up")


def the_session_is_renewed_on_use(real):
    """By each page, for a visitor who has one; not by what a page asks for by itself, nor by an answer that a press may overtake."""
    app = real.web("postgres", **{"web.cookie_days": 7})
    app.start()
    try:
        visitor = Visitor(app.port, real.addresses[27])
        for path in ("/live", "/stats"):
            equal(visitor.ask("GET", path).header("set-cookie"), None, f"a stranger's cookie of {path}")
        visitor.visit()
        visitor.press()
        own = visitor.cookie
        for path in ("/", "/live", "/stats"):
            cookie = await_that(f"{path} renews", lambda: visitor.ask("GET", path).header("set-cookie"))
            equal(cookie, f"{own}; Path=/; Max-Age={7 * 86_400}; HttpOnly; SameSite=Lax", f"the cookie of {path}")
        equal(visitor.ask("GET", "/stats/numbers").header("set-cookie"), None, "the cookie of /stats/numbers")
        visitor.cookie = "pressline=no-session.1.7"
        for path in ("/live", "/stats"):
            equal(visitor.ask("GET", path).header("set-cookie"), None, f"{path} renews a session that is none")
        visitor.cookie = own
        watcher = Watcher(app.port)
        await_that("a stream", watcher.events)
        expect(b"set-cookie" not in watcher.content().lower(), "a stream sets a cookie")
        watcher.close()
        link = real.links["postgres"]
        link.fall_silent()
        try:

            def slow():
                began = time.monotonic()
                answer = visitor.ask("GET", "/stats")
                return answer if time.monotonic() - began > 2 else None

            equal(await_that("a slow answer", slow).header("set-cookie"), None, "the cookie of a slow answer")
        finally:
            link.restore()
    finally:
        app.kill()


def who_was_away_too_long_is_told(real):
    """Records that are gone from the topic cannot be told one by one: how many offsets, and a snapshot."""
    await_that("the relay has all", lambda: len(real.out_records()) >= len(real.raw_records()), 180)
    ends = {}
    for partition, offset, _ in real.out_records():
        ends[partition] = max(offset, ends.get(partition, 0))
    real.forget(0, ends[0] - 2)

    def text(positions):
        return " ".join(f"{partition}:{offset}" for partition, offset in sorted(positions.items()))

    app = real.web("memory")
    app.start()
    try:
        back = Watcher(app.port, last=text(ends | {0: ends[0] - 10}))
        await_that("both events", lambda: len(back.events()) >= 2)
        skipped, snapshot = back.events()[:2]
        equal((skipped.name, skipped.data), ("skipped", {"offsets": 7}), "what is said")
        equal((snapshot.name, snapshot.id), ("snapshot", text(ends)), "and then")
        back.close()
    finally:
        app.kill()


def a_broken_connection_loses_and_doubles_nothing(real):
    """Presses wait for a broker that comes back, each is in the topic once; with one that stays away the page says so."""
    link = real.links["kafka"]
    app = real.web("memory", **{"kafka.bootstrap_servers": f"127.0.0.1:{link.port}"})
    app.start()
    try:
        visitors = [Visitor(app.port, address) for address in real.addresses[6:26]]
        for visitor in visitors:
            equal(visitor.visit().status, 200, "the page")
        with ThreadPoolExecutor(len(visitors)) as pool:

            def press_all(times):
                return list(pool.map(lambda visitor: [visitor.press().status for _ in range(times)], visitors))

            running = [pool.submit(lambda visitor=visitor: [visitor.press().status for _ in range(40)]) for visitor in visitors]
            for _ in range(3):
                time.sleep(0.3)
                link.cut()
                time.sleep(0.5)
                link.restore()
            statuses = Counter(status for future in running for status in future.result(120))
            equal(statuses, {200: 40 * len(visitors)}, "answers over a connection that breaks")
            raw = Counter(key for key, value in real.raw_records() if value["action"] == "PressButton")
            equal({visitor.session_id: raw[visitor.session_id] for visitor in visitors}, {v.session_id: 40 for v in visitors}, "raw presses")
            link.cut()
            began = time.monotonic()
            equal(Counter(status for own in press_all(1) for status in own), {503: len(visitors)}, "answers without a broker")
            expect(time.monotonic() - began < 20, "visitors wait too long")
            answer = visitors[0].ask("POST", "/")
            expect(NO_KAFKA in answer.body and 'role="alert"' in answer.body, f"the page says {answer.body[:200]}")
            link.restore()
            # The broker is found while the visitor waits, however long it was away.
            equal(visitors[0].press().status, 200, "the first press afterwards")
    finally:
        link.restore()
        app.kill()


TESTS = [
    a_press_goes_all_the_way,
    only_own_pages_and_patient_visitors_press,
    statistics_are_right,
    statistics_with_a_broken_store,
    watchers_resume,
    the_session_is_renewed_on_use,
    a_broken_connection_loses_and_doubles_nothing,
    # The last one: it takes records out of the topic.
    who_was_away_too_long_is_told,
]


def prepare(real):
    """History of days in the topic and both tables, and a press in a time zone that nobody knows in the tables alone."""
    with maxminddb.open_database(str(ROOT / "data" / "demo.mmdb")) as reader:
        known = [str(network[1]) for network, record in reader if record.get("city") and network.num_addresses > 2]
    real.addresses = known[:: max(1, len(known) // 60)][:60]
    real.send(history(real.addresses, 20))
    await_that("the history comes out of the relay", lambda: len(real.out_records()) == 600, 120)
    real.await_tables(600)
    real.planted = []
    at = datetime(2026, 3, 5, 10, 45, tzinfo=timezone.utc)
    columns = "session_id, timestamp, cohort, action, country_name, country_code, subdivision_name, subdivision_code, city_name, longitude, time_zone"
    for name, longitude, zone in (("Fiji", 178.44, "Fiji/Nowhere"), ("Cote d'Ivoire", -4.0, None), ("Nauru", None, None)):
        session = f"00000000-0000-4000-8000-0000000000{len(real.planted):02d}"
        real.planted.append({
            "session_id": session, "timestamp": at, "cohort": 1, "action": "PressButton", "country_name": name, "country_code": "FJ",
            "subdivision_name": "", "city_name": "", "longitude": longitude, "time_zone": zone,
        })  # fmt: skip
        words = ["NULL" if value is None else f"'{value}'" for value in (longitude, zone)]
        quoted = name.replace("'", "''")
        for table in real.tables:
            time_text = f"{at:%Y-%m-%d %H:%M:%S}" + ("+00" if table.name == "postgres" else "")
            own = "" if table.name == "postgres" else ", _topic, _partition, _offset"
            end = "" if table.name == "postgres" else ", 'planted', 0, 0"
            table.run_sql(
                f"INSERT INTO {table.table} ({columns}{own}) VALUES ('{session}', '{time_text}', 1, 'PressButton', '{quoted}', 'FJ', '', '', '', "
                f"{', '.join(words)}{end})"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    if not BINARY.exists():
        parser.error(f"{BINARY} is missing: make build")
    with Real() as real:
        prepare(real)
        return run_each(TESTS, arguments.only, real)


if __name__ == "__main__":
    # Threads of librdkafka may hang: leave without waiting for them.
    code = main()
    sys.stdout.flush()
    os._exit(code)
