"""sql/questions on both databases: every view against an oracle in plain Python, the answers that were planted, and the dashboards
on the views.

    tests/stack/stack.py run -- python3 -m tests.questions.run

Prints a line for each view and each planted answer; exit code 1 when anything is wrong.
"""

import math
import sys
import time

from tests.harness import interpreter

interpreter.require_packages()


from tests.grafana import questions  # noqa: E402
from tests.questions import events  # noqa: E402
from tests.questions import oracle  # noqa: E402
from tests.questions.databases import ClickHouse, Postgres, question_files  # noqa: E402

DATABASE = "press_questions"
# Sums of floating-point numbers in another order, and the chord against the haversine.
TOLERANCE = 1e-6


class Report:
    """What was found wrong."""

    def __init__(self):
        self.faults = 0

    def tell(self, is_right, text):
        """One line; counts it where it is wrong."""
        self.faults += not is_right
        print(f"{'ok   ' if is_right else 'WRONG'} {text}", flush=True)


def check_files(report):
    """The same files for both databases, each headed by the same question, each view with the same columns elsewhere."""
    heads = [{path.name: path.read_text().splitlines()[0] for path in question_files(name)} for name in ("postgres", "clickhouse")]
    report.tell(heads[0] == heads[1] and len(heads[0]) == 8, "both databases have the same questions")
    for name, head in heads[0].items():
        report.tell(head.startswith("-- ") and head.endswith("?"), f"{name}: {head[3:]}")


def check_view(report, database, view, expected):
    """All rows of a view are those of the oracle."""
    name = f"{database.name} {view}"
    begun = time.monotonic()
    rows, columns = database.select(f"SELECT * FROM {view}")
    took = time.monotonic() - begun
    if columns[0] != "generated" or set(columns) != set(expected[0]):
        report.tell(False, f"{name}: columns {columns}, expected {sorted(expected[0])}")
        return
    exact = [column for column in columns if not any(isinstance(row[column], float) for row in expected)]
    found, wanted = ({_key(row, exact): row for row in some} for some in (rows, expected))
    wrong = []
    for key in found.keys() | wanted.keys():
        if key not in found or key not in wanted:
            wrong.append(f"{'missing' if key not in found else 'too much'}: {wanted.get(key) or found[key]}")
            continue
        off = [column for column in columns if not _same(found[key][column], wanted[key][column])]
        if off:
            wrong.append(f"{key}: " + ", ".join(f"{one} is {found[key][one]}, expected {wanted[key][one]}" for one in off))
    report.tell(not wrong and len(rows) == len(expected), f"{name}: {len(rows)} rows in {took:.1f} s" + "".join(f"\n        {one}" for one in wrong[:4]))


def _key(row, exact):
    return tuple((type(row[column]).__name__, row[column]) for column in exact)


def _same(found, wanted):
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (found, wanted))
    if numbers:
        return math.isclose(found, wanted, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(found) is type(wanted) and found == wanted


def check_planted(report, database):
    """What the generator was told comes out again."""

    def near(what, found, planted, tolerance):
        report.tell(
            found is not None and abs(found - planted) <= tolerance,
            f"{database.name}: {what} is {'null' if found is None else f'{found:.3f}'}, planted {planted} ± {tolerance:.2f}",
        )

    def one(query):
        return database.select(query)[0][0]

    growth = one("SELECT * FROM doubling_time WHERE generated AND measure = 'new sessions'")
    near("doubling time in days", growth["doubling_days"], events.DOUBLING_DAYS, 0.1 * events.DOUBLING_DAYS)
    near("r² of the growth", growth["r_squared"], 1, 0.1)
    bored = one("SELECT * FROM boredom_half_life WHERE NOT generated")
    near("half-life of pressing in days", bored["half_life_days"], events.BOREDOM_DAYS, 0.15 * events.BOREDOM_DAYS)
    for week, share in ((1, 0.5), (2, 0.25)):
        # Two returns in all, of which week 1 has a quarter: how likely is none of a Poisson number?
        row = one(f"SELECT * FROM boredom_by_week WHERE NOT generated AND week = {week}")
        near(f"retention in week {week}", row["retention"], round(1 - math.exp(-2 * share / 2), 3), 0.03)
    effect = one("SELECT * FROM cohort_comparisons WHERE NOT generated AND cohort = 1 AND other_cohort = 2")
    near("presses of cohort 2 to those of cohort 1", effect["ratio"], events.EFFECT, 0.1)
    report.tell(
        effect["differs"] and effect["ratio_low"] <= events.EFFECT <= effect["ratio_high"],
        f"{database.name}: the interval {effect['ratio_low']:.3f} to {effect['ratio_high']:.3f} holds {events.EFFECT}, and the cohorts differ",
    )
    mean = one("SELECT CAST(sum(presses) AS DOUBLE PRECISION) AS presses, CAST(sum(visits) AS DOUBLE PRECISION) AS visits FROM press_sessions WHERE generated")
    near("presses of a visit", mean["presses"] / mean["visits"], events.PRESSES, 0.06 * events.PRESSES)
    sessions = one("SELECT count(*) AS n FROM press_sessions WHERE generated")["n"]
    near("visitors", sessions, events.VISITORS, 3)
    places = one("SELECT CAST(sum(to_nothing) AS DOUBLE PRECISION) AS nothing, CAST(sum(events) AS DOUBLE PRECISION) AS events FROM place_reliability WHERE generated")
    near("share without a place", places["nothing"] / places["events"], events.NOWHERE, 0.025)
    _check_rhythm(near, database)
    _check_spread(report, database)


def _check_rhythm(near, database):
    hours = database.select(
        "SELECT local_hour, CAST(sum(events) AS DOUBLE PRECISION) AS events FROM presses_by_local_hour "
        "WHERE generated AND clock = 'longitude' GROUP BY local_hour"
    )[0]
    total = sum(row["events"] for row in hours)
    turns = [((row["local_hour"] + 0.5) / 24 * math.tau, row["events"] / total) for row in hours]
    east, north = (sum(share * wave(turn) for turn, share in turns) for wave in (math.cos, math.sin))
    near("busiest local hour", math.atan2(north, east) % math.tau / math.tau * 24, events.BUSIEST_HOUR, 0.5)
    near("how much the day's rhythm swings", 2 * math.hypot(east, north), events.RHYTHM, 0.08)


def _check_spread(report, database):
    """Nobody presses farther away than use has come, and by the end it has come nearly as far as it could."""
    rows = database.select("SELECT * FROM first_presses WHERE generated AND level = 'city' AND distance_km IS NOT NULL")[0]
    rows = [row for row in rows if row["days_after_first"] is not None and row["city_name"] not in ("Los Angeles", "Kathmandu")]
    first = min(row["first_at"] for row in rows)
    lead = (float(first[8:10]) - 2) + float(first[11:13]) / 24 + 1 / 24  # days from the begin to the first press
    # The first press and the city's own point are not the same spot, and a city's networks have several.
    too_far = [row for row in rows if row["distance_km"] > 150 + events.REACH_KM * (row["days_after_first"] + lead)]
    report.tell(not too_far, f"{database.name}: {len(rows)} cities, none before use could reach it{too_far[:1] or ''}")
    for day in (10, 20, 30):
        reached = max(row["distance_km"] for row in rows if row["days_after_first"] + lead <= day)
        speed = reached / day
        report.tell(
            0.6 * events.REACH_KM <= speed <= 1.1 * events.REACH_KM,
            f"{database.name}: after {day} days the farthest city is {reached:.0f} km away: {speed:.0f} km a day, planted {events.REACH_KM}",
        )


def main():
    """The exit code."""
    begun, report = time.monotonic(), Report()
    check_files(report)
    everything = list(events.all_events())
    print(f"{len(everything)} events after {time.monotonic() - begun:.0f} s", flush=True)
    databases = [Postgres(DATABASE), ClickHouse(DATABASE)]
    for database in databases:
        database.insert(everything)
        for path in question_files(database.name):
            database.run_file(path)
            database.run_file(path)  # again changes nothing
        for used_from, build in events.BUILDS:
            database.insert_build(used_from, build)
        missing = database.views() ^ {view.__name__ for view in oracle.VIEWS}
        report.tell(not missing, f"{database.name}: every view has an oracle{missing or ''}")
    for view in oracle.VIEWS:
        expected = view(everything)
        columns = [database.columns(view.__name__) for database in databases]
        report.tell(columns[0] == columns[1], f"{view.__name__}: the same columns in both databases" + (f": {columns}" if columns[0] != columns[1] else ""))
        for database in databases:
            check_view(report, database, view.__name__, expected)
        # As tools send them: Superset's connection wants the first one, SQL's standard the second.
        databases[1].settings = ", prefer_column_name_to_alias = 1, join_use_nulls = 1"
        check_view(report, databases[1], view.__name__, expected)
        databases[1].settings = ""
    for database in databases:
        check_planted(report, database)
    questions.check(report, databases, events.BEGIN)
    print(f"{report.faults} faults, {time.monotonic() - begun:.0f} s")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
