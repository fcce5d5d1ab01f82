"""The events that the questions are asked of: two simulated audiences with planted answers, located by pressline itself, and a
few by hand for what no audience does."""

import json
import subprocess
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

from tests.harness.paths import ROOT

BEGIN = datetime(2026, 3, 2, tzinfo=timezone.utc)  # a Monday
# Generated data (no cohorts): it spreads from Helsinki and grows. What is planted is what the options say.
DAYS, VISITORS, DOUBLING_DAYS, REACH_KM, RHYTHM, BUSIEST_HOUR, PRESSES, NOWHERE = 35, 2000, 5, 200, 0.7, 20, 3, 0.10
SPREADING = (
    f"--seed 11 --simulate {DAYS}d --visitors {VISITORS} --doubling {DOUBLING_DAYS}d --seed-city Helsinki,FI --reach {REACH_KM} "
    f"--returns 1 --presses {PRESSES} --rhythm {RHYTHM} --busiest-hour {BUSIEST_HOUR} --private 5% --unknown 5%"
)
# Data that counts as real (cohorts): as many visitors each day, who become bored; cohort 2 presses more.
BOREDOM_DAYS, EFFECT = 7, 1.3
BORED = (
    f"--seed 12 --simulate 42d --visitors 2000 --returns 2 --boredom {BOREDOM_DAYS}d --presses 3 "
    f"--cohorts 1,2 --cohort-effect 2={EFFECT}"
)
# When the database of places was exchanged.
BUILDS = [(BEGIN + timedelta(days=7), "2026-03-01"), (BEGIN + timedelta(days=20, hours=5), "2026-03-15")]


def all_events():
    """Dicts by the columns of the table, `timestamp` a datetime."""
    return [*simulated(SPREADING), *simulated(BORED), *by_hand()]


def simulated(options):
    """What `pressline generate` makes, as the relay would write it."""
    binary = ROOT / "target/release/pressline"
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.jsonl"
        words = ["generate", "--start", BEGIN.date().isoformat(), "--malformed", "0", *options.split(), "--output", raw]
        subprocess.run([binary, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        trial = [binary, "try", "--pipeline", ROOT / "pipelines/button_presses.toml", "--json", raw]
        lines = subprocess.run(trial, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    for line in lines:
        value = json.loads(line)["value"]
        yield value | {"timestamp": datetime.fromisoformat(value["timestamp"].replace("Z", "+00:00"))}


def by_hand():
    """Time zones, accuracy, pauses, sessions without a press or that move, places that are known in part."""
    at = BEGIN + timedelta(days=3, hours=23, minutes=45, microseconds=123456)
    kathmandu = _place("Nepal", "NP", "Bagmati", "P3", "Kathmandu", 27.72, 85.32, 20, "Asia/Kathmandu")
    los_angeles = _place("United States", "US", "California", "CA", "Los Angeles", 34.05, -118.24, 5, "America/Los_Angeles")
    region = _place("Finland", "FI", "Uusimaa", "18", "", None, None, 100, None)
    country = _place("Finland", "FI", "", "", "", None, None, 500, None)
    fiji = _place("Fiji", "FJ", "Central", "C", "Suva", -18.14, 178.44, None, "Fiji/Nowhere")
    nowhere = _place("", "--", "", "", "", None, None, None, None)
    # Three visits of one session: the pause of exactly half an hour begins none, a longer one does.
    minutes = [0, 1, 1, 31, 61.1, 62, 20_000]
    for cohort, session, place in ((1, 1, kathmandu), (None, 2, los_angeles), (3, 3, fiji), (None, 4, region), (1, 5, country)):
        for number, minute in enumerate(minutes):
            action = "EnterPage" if number == 0 else "ExitPage" if number == 5 else "PressButton"
            yield _event(session, at + timedelta(minutes=minute), cohort, action, place)
    # Daylight saving time begins: two instants an hour apart, two local hours apart.
    for hour in (9, 10):
        yield _event(6, datetime(2026, 3, 8, hour, 30, tzinfo=timezone.utc), 2, "PressButton", los_angeles)
    # Nobody knows where; only looks; moves from one country to another.
    yield _event(7, at, 2, "PressButton", nowhere)
    yield _event(8, at, 2, "EnterPage", kathmandu)
    yield _event(9, at, None, "PressButton", kathmandu)
    yield _event(9, at + timedelta(hours=9), None, "PressButton", los_angeles)
    # The end of both kinds of data, so that the last weeks are whole.
    yield _event(10, BEGIN + timedelta(days=43), 1, "EnterPage", nowhere)


def _place(*values):
    names = ("country_name", "country_code", "subdivision_name", "subdivision_code", "city_name", "latitude", "longitude")
    return dict(zip((*names, "accuracy_km", "time_zone"), values))


def _event(session, timestamp, cohort, action, place):
    return {
        "session_id": f"00000000-0000-4000-8000-{session:012d}",
        "timestamp": timestamp,
        "cohort": cohort,
        "action": action,
    } | place
