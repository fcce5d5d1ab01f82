"""Superset's dashboard against PostgreSQL and ClickHouse: imports superset/export twice, asks every chart's data, has a browser draw
the dashboard and looks for charts that show an error or nothing.

    make superset

Screenshots and logs lie in target/superset: look at the pictures, whether they are any good nothing here can say.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

from tests.harness import interpreter

interpreter.require_packages()

from tests.harness.browser import Browser  # noqa: E402
from tests.harness.paths import ROOT  # noqa: E402
from tests.questions import events  # noqa: E402
from tests.questions.databases import ClickHouse, Postgres, question_files  # noqa: E402
from tests.stack.services import cache  # noqa: E402
from tests.stack.services import ports  # noqa: E402

FOLDER = ROOT / "target/superset"
DATABASE = "press_superset"
# So high that all charts are on it: Superset draws no others.
SCREEN = {"width": 1600, "height": 1900}
CHARTS = 9
# In the page. The browser asks other queries than the API's users do, and has to draw what it gets.
LOOK = """
const charts = [...document.querySelectorAll(".dashboard-component-chart-holder")];
const name = (chart) => chart.innerText.split("\\n")[0];
const wrong = (chart) => chart.querySelector("[role=alert]") || /No results|No data/.test(chart.innerText);
const drawn = (chart) => chart.querySelector("canvas, svg.datamap path, tbody td");
return {
  wrong: charts.filter(wrong).map((chart) => chart.innerText.replace(/\\s+/g, " ").slice(0, 300)),
  missing: charts.filter((chart) => !wrong(chart) && !drawn(chart)).map(name),
  charts: charts.length,
};
"""
# docs/superset.md says why.
CLICKHOUSE_SETTINGS = "?prefer_column_name_to_alias=1&optimize_trivial_group_by_limit_query=0"


def main():
    """The exit code."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    everything = list(events.all_events())
    for database in (Postgres(DATABASE), ClickHouse(DATABASE)):
        database.insert(everything)
        for path in question_files(database.name):
            database.run_file(path)
    faults = 0
    for name, uri in _addresses().items():
        # One instance each: Superset's tables in SQLite take a dataset's name only once, whatever its database is.
        superset = Superset(FOLDER / name.lower(), ports.free(["superset_port"])["superset_port"])
        file = FOLDER / f"{name}.zip"
        subprocess.run([sys.executable, ROOT / "superset/pack.py", uri, file, "--name", name], check=True)
        with superset.running(file):
            faults += superset.check_charts(name)
            faults += superset.check_page(f"/superset/dashboard/pressline-questions-{name.lower()}/?standalone=1", FOLDER / f"{name}.png")
    print(f"{faults} faults")
    return 1 if faults else 0


def _addresses():
    words = lambda name: [os.environ[f"PRESSLINE_TEST_{name}_{key}"] for key in ("USER", "PASSWORD")]  # noqa: E731
    (user, password), postgres = words("POSTGRES"), os.environ["PRESSLINE_TEST_POSTGRES"]
    (reader, key), clickhouse = words("CLICKHOUSE"), os.environ["PRESSLINE_TEST_CLICKHOUSE"].removeprefix("http://")
    return {
        "PostgreSQL": f"postgresql+psycopg2://{user}:{password}@{postgres}/{DATABASE}",
        "ClickHouse": f"clickhousedb://{reader}:{key}@{clickhouse}/{DATABASE}{CLICKHOUSE_SETTINGS}",
    }


class Superset:
    """One instance with its own SQLite, on loopback."""

    def __init__(self, folder, port):
        folder.mkdir()
        self._folder = folder
        self._address = f"http://127.0.0.1:{port}"
        self._port = port
        settings = {"SUPERSET_HOME": str(folder), "SUPERSET_CONFIG_PATH": str(ROOT / "tests/superset" / "superset_config.py")}
        self._environment = os.environ | settings

    @contextmanager
    def running(self, file):
        """While the server answers, with the dashboard of this file."""
        words = [cache.superset_python(), ROOT / "tests/superset" / "serve.py", str(self._port), file]
        with open(self._folder / "superset.log", "wb") as log:
            server = subprocess.Popen(words, env=self._environment, stdout=log, stderr=log, cwd=self._folder)
            try:
                self._await_ready(server)
                yield
            finally:
                server.terminate()
                server.wait(30)

    def check_charts(self, name):
        """Asks the query of each chart of a dashboard; how many return nothing."""
        faults = 0
        charts = self._ask(f"/api/v1/dashboard/pressline-questions-{name.lower()}/charts")["result"]
        for chart in charts:
            form = chart["form_data"]
            source = {"id": int(form["datasource"].split("__")[0]), "type": "table"}
            query = {"columns": form.get("all_columns") or _columns(form), "metrics": _metrics(form), "row_limit": 100, "orderby": []}
            try:
                answer = self._ask("/api/v1/chart/data", {"datasource": source, "queries": [query], "result_format": "json"})
                rows = answer["result"][0]["data"]
            except urllib.error.HTTPError as error:
                rows = []
                print(error.read().decode()[:500])
            says_something = any(isinstance(cell, (int, float)) and cell for row in rows for cell in row.values())
            print(f"{'ok   ' if says_something else 'EMPTY'} {name}: {chart['slice_name']}: {len(rows)} rows", flush=True)
            faults += not says_something
        return faults + (len(charts) != CHARTS)

    def check_page(self, path, file):
        """Has a browser draw the dashboard, takes a picture of it; how many charts show an error or nothing."""
        with Browser() as browser:
            browser.look_like(**SCREEN)
            browser.open(self._address + path)
            until, seen = time.monotonic() + 300, None
            while time.monotonic() < until:
                seen = browser.run(LOOK)
                if seen["charts"] == CHARTS and not seen["missing"]:
                    break
                time.sleep(1)
            time.sleep(2)  # What is drawn moves into its place.
            browser.screenshot(file)
        for text in [*seen["wrong"], *seen["missing"]]:
            print(f"FAULT in the browser: {text}")
        print(f"{seen['charts']} charts in the browser; look at {file.relative_to(ROOT)}", flush=True)
        return len(seen["wrong"]) + len(seen["missing"]) + (seen["charts"] != CHARTS)

    def _ask(self, path, body=None):
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._address + path, json.dumps(body).encode() if body else None, headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def _await_ready(self, server):
        until = time.monotonic() + 900
        while time.monotonic() < until and server.poll() is None:
            try:
                urllib.request.urlopen(f"{self._address}/health", timeout=10).close()
                return
            except OSError:
                time.sleep(0.5)
        raise SystemExit(f"Superset does not answer; see {self._folder}/superset.log")


def _columns(form):
    return [column for column in (form.get("x_axis"), form.get("entity"), *form.get("groupby", ())) if column]


def _metrics(form):
    return form.get("metrics") or ([form["metric"]] if "metric" in form else [])


if __name__ == "__main__":
    sys.exit(main())
