"""Everything under grafana/ against a real run: every query of every panel must return data, every alert must fire when
it should and have its section in the runbooks, and docs/metrics.md must be what pressline shows.

    tests/stack/stack.py run -- python3 -m tests.grafana.run
    ... --without-services                         only what needs no run: structure and alerts

Prints a line for each query with what it returned; exit code 1 when anything is wrong.
"""

import argparse
import re
import sys
import time

from tests.harness import interpreter

interpreter.require_packages()

import psycopg  # noqa: E402

from tests.grafana import contract  # noqa: E402
from tests.grafana import dashboards  # noqa: E402
from tests.grafana import runbooks  # noqa: E402
from tests.grafana.feed import Feed  # noqa: E402
from tests.grafana.prometheus import EXAMPLE, RATE_INTERVAL, RULE_TESTS, RULES, Prometheus, promtool  # noqa: E402
from tests.harness.paths import ROOT  # noqa: E402
from tests.harness.waiting import Failure, await_that  # noqa: E402

DAY = 24 * 3600
# As Grafana chooses it for a day on a panel of half a screen.
INTERVAL = 300
NOWHERE = "no-such-value"
_METRIC = re.compile(r"\b((?:pressline|process)_[a-z_0-9]+)\b")


class Report:
    """What was found wrong, and how much was looked at."""

    def __init__(self):
        self.faults, self.queries = [], 0

    def fault(self, text):
        """Something is wrong."""
        self.faults.append(text)
        print(f"WRONG {text}", flush=True)

    def query(self, board, panel, target, count, what):
        """A query returned so much; nothing is wrong."""
        self.queries += 1
        where = f"{board.name}: {panel['title']} {target['refId']}"
        print(f"{'ok   ' if count else 'EMPTY'} {where}: {count} {what}", flush=True)
        if not count:
            self.fault(f"{where} returns no data")


def check_files(report, boards):
    """What needs no run."""
    known = contract.queried()
    for board in boards:
        for sources in dashboards.provisioned():
            for fault in board.faults(sources):
                report.fault(f"{board.name}: {fault}")
        for panel, _, text in board.queries():
            if panel["datasource"]["type"] == "prometheus":
                _check_names(report, f"{board.name}: {panel['title']}", text, known)
    uids = [board.content["uid"] for board in boards]
    if len(set(uids)) != len(uids):
        report.fault(f"two dashboards have the same uid: {uids}")
    for words in (("check", "rules", RULES), ("check", "config", EXAMPLE), ("test", "rules", RULE_TESTS)):
        promtool(*words)
        print(f"promtool {' '.join(words[:2])} {words[2].relative_to(ROOT)}: in order", flush=True)


def _check_names(report, where, text, known):
    for name in _METRIC.findall(text):
        if contract.metric_of(name, known) not in known:
            report.fault(f"{where} asks for {name}, which is not in docs/metrics.md")


def check_alerts(report, rules, boards):
    """Each alert is tested, says what is known, and leads to a section of the runbooks."""
    tested = set(re.findall(r"alertname: (\w+)", RULE_TESTS.read_text()))
    sections = runbooks.sections()
    known = contract.queried()
    panels = {panel["title"] for board in boards for panel in board.panels}
    for rule in rules:
        name = rule["name"]
        _check_names(report, f"alert {name}", rule["query"], known)
        page, _, anchor = rule["annotations"].get("runbook", "").partition("#")
        if page != "docs/runbooks.md" or anchor not in sections:
            report.fault(f"alert {name}: annotation runbook leads nowhere: {page}#{anchor}")
        if name not in tested:
            report.fault(f"alert {name} is not in {RULE_TESTS.relative_to(ROOT)}")
        for fault in runbooks.faults(sections.get(anchor, ""), panels):
            report.fault(f"docs/runbooks.md#{anchor}: {fault}")
    for anchor in set(sections) - {rule["name"].lower() for rule in rules}:
        report.fault(f"docs/runbooks.md#{anchor}: there is no such alert")
    print(f"{len(rules)} alerts, each tested and with its runbook: {', '.join(rule['name'] for rule in rules)}")


def check_metrics_dashboard(report, board, server, begin):
    """Every query of a dashboard on Prometheus."""
    values = {name: ".*" for name in board.variables} | {"__rate_interval": RATE_INTERVAL}
    for variable in board.variables.values():
        selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
        found = server.label_values(label, dashboards.expand(selector, values))
        print(f"{'ok   ' if found else 'EMPTY'} {board.name}: ${variable['name']}: {', '.join(found)}")
        if not found:
            report.fault(f"{board.name}: variable {variable['name']} has no values")
    for panel, target, text in board.queries():
        instant = target.get("instant", False)

        def series(changed, text=text, instant=instant):
            return server.series(dashboards.expand(text, values | changed), begin, time.time(), instant)

        try:
            found = series({})
        except Failure as failure:
            report.fault(f"{board.name}: {panel['title']}: {failure}")
            continue
        report.query(board, panel, target, len(found), "series")
        for label in re.findall(r"{{(\w+)}}", target.get("legendFormat", "")):
            if any(label not in labels for labels, _ in found):
                report.fault(f"{board.name}: {panel['title']}: the legend names {label}, which is not returned")
        for name in board.used(text):
            if series({name: NOWHERE}):
                report.fault(f"{board.name}: {panel['title']} is not narrowed by ${name}")


def check_presses_dashboard(report, board, table, run, begin, end):
    """Every query of a dashboard on a database; `run`: (rows, columns) of a query. Panel → rows."""
    macros = dashboards.clickhouse_sql if table.name == "clickhouse" else dashboards.postgres_sql
    values = {"table": table.table}

    def rows(text, changed):
        return run(macros(dashboards.expand(text, values | changed), begin, end, INTERVAL))

    for variable in (one for one in board.variables.values() if one["type"] == "query"):
        found = [row[0] for row in rows(variable["query"], {})[0]]
        print(f"{'ok   ' if found else 'EMPTY'} {board.name}: ${variable['name']}: {len(found)} values")
        if not found:
            report.fault(f"{board.name}: variable {variable['name']} has no values")
        values[variable["name"]] = found
    answers = {}
    for panel, target, text in board.queries():
        try:
            found, columns = rows(text, {})
        except (Failure, psycopg.Error) as error:
            report.fault(f"{board.name}: {panel['title']}: {error}")
            continue
        report.query(board, panel, target, len(found) if _says_something(found) else 0, "rows")
        for column in dashboards.columns_of_options(panel):
            if column not in columns:
                report.fault(f"{board.name}: {panel['title']} shows column {column}, the query returns {columns}")
        for name in board.used(text):
            if name != "table" and _says_something(rows(text, {name: [NOWHERE]})[0]):
                report.fault(f"{board.name}: {panel['title']} is not narrowed by ${name}")
        answers[panel["title"]] = (columns, found)
    return answers


def _says_something(rows):
    """Whether any number of an answer is other than 0."""
    return any(isinstance(cell, (int, float)) and cell for row in rows for cell in row)


def compare(report, left, right):
    """Both databases hold the same, so both dashboards must show the same."""
    if list(left) != list(right):
        report.fault(f"presses: only one of ClickHouse and PostgreSQL has {sorted(left.keys() ^ right.keys())}")
    for title in left.keys() & right.keys():
        mine, yours = (_comparable(*answer) for answer in (left[title], right[title]))
        if mine != yours:
            some = list(mine ^ yours)[:4]
            report.fault(f"presses: {title} is not the same from ClickHouse and PostgreSQL: {some}")
    print(f"the same from ClickHouse and PostgreSQL: {', '.join(left)}")


def _comparable(columns, rows):
    # Of several cities in one spot, each database names one as it likes.
    kept = [index for index, column in enumerate(columns) if column not in ("city", "country")]
    return {tuple(round(row[i], 6) if isinstance(row[i], (int, float)) else row[i] for i in kept) for row in rows}


def check_rebalance(report, feed, first):
    """The series of partitions that went to another process end."""
    before = contract.partitions(contract.scrape(first), "pressline_lag_records")
    second = feed.start("b")

    def divided():
        feed.check_running()
        return 0 < first.metric("pressline_assigned_partitions") < len(before)

    await_that("the second process to get partitions", divided, pause=0.2)
    shown = lambda one: contract.partitions(contract.scrape(one), "pressline_lag_records")  # noqa: E731
    left = first.metric("pressline_assigned_partitions")
    if len(shown(first)) > left:
        report.fault(f"partitions {sorted(shown(first))} still have series although only {left:.0f} are assigned")
    await_that("each partition to be shown once", lambda: not shown(first) & shown(second) and
               shown(first) | shown(second) == before, seconds=20, pause=0.5)  # fmt: skip
    print(f"lag of partitions by process after a rebalance: {sorted(shown(first))} and {sorted(shown(second))}")


def check_run(report, boards):
    """What needs a run."""
    by_name = {board.name: board for board in boards}
    with Feed() as feed:
        first = feed.start("a")
        await_that("its pages", lambda: (feed.check_running(), first.address())[1])
        with Prometheus(feed.folder, ["{}:{}".format(*first.address())]) as server:
            begin = time.time()
            check_alerts(report, server.alerts(), boards)
            feed.feed()
            server.await_scrapes(25)
            check_metrics_dashboard(report, by_name["operations"], server, begin)
            firing = [one["labels"]["alertname"] for one in server.ask("alerts")["alerts"] if one["state"] == "firing"]
            print(f"alerts of a sound run: {', '.join(firing) or 'none'}")
            if firing:
                report.fault(f"alerts in a sound run: {firing}")
        faults = list(contract.faults(contract.scrape(first)))
        for fault in faults:
            report.fault(f"/metrics: {fault}")
        print(f"/metrics: {len(contract.documented())} metrics of docs/metrics.md, {len(faults)} differences")
        feed.end()
        await_that("both tables to hold everything", feed.settled, pause=0.3)
        end = time.time() + 1
        answers = []
        for name in ("clickhouse", "postgres"):
            run = (feed.ask_clickhouse, feed.ask_postgres)[name == "postgres"]
            board = by_name[f"presses-{name}"]
            answers.append(check_presses_dashboard(report, board, feed.tables[name], run, end - DAY, end))
        compare(report, *answers)
        check_rebalance(report, feed, first)
        for instance in feed.instances:
            instance.terminate()
        for instance in feed.instances:
            instance.await_exit(10, 0)


def main():
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-services", action="store_true", help="only what needs no run")
    options = parser.parse_args()
    begun, report = time.monotonic(), Report()
    boards = dashboards.load()
    try:
        check_files(report, boards)
        if not options.without_services:
            check_run(report, boards)
    except Failure as failure:
        report.fault(str(failure))
    print(f"{report.queries} queries, {len(report.faults)} faults, {time.monotonic() - begun:.0f} s")
    for fault in report.faults:
        print(f"  {fault}")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
