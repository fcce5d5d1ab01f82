"""A Prometheus of its own that asks the run every second, and promtool."""

import json
import math
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request

from tests.harness.paths import ROOT
from tests.harness.waiting import Failure, await_that
from tests.stack.services.ports import LOOPBACK, free
from tests.stack.services.process import Process

RULES = ROOT / "grafana" / "alerts" / "pressline.rules.yml"
RULE_TESTS = ROOT / "tests" / "grafana" / "alerts.test.yml"
EXAMPLE = ROOT / "grafana" / "prometheus.yml"
# What Grafana makes of $__rate_interval: four scrapes, but lag and prefetch are told every five seconds only.
RATE_INTERVAL = "15s"


class Prometheus:
    """The server; a context manager. `targets`: host:port."""

    def __init__(self, folder, targets):
        self._folder = folder / "prometheus"
        self._targets = targets
        self._address = f"{LOOPBACK}:{free(['prometheus'])['prometheus']}"
        self._process = Process(self._folder, "prometheus")

    def __enter__(self):
        self._folder.mkdir()
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "pressline", "static_configs": [{"targets": self._targets}]}],
        }
        file = self._folder / "prometheus.yml"
        file.write_text(json.dumps(configuration))  # which is YAML too
        options = [f"--config.file={file}", f"--storage.tsdb.path={self._folder}/data"]
        self._process.start([_program("prometheus"), *options, f"--web.listen-address={self._address}"])
        self._process.wait_until(self._is_ready, 30)
        return self

    def __exit__(self, *_):
        self._process.stop()

    def _is_ready(self):
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def ask(self, path, **parameters):
        """The `data` of an answer of the API."""
        address = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(parameters, doseq=True)}"
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise Failure(f"Prometheus refuses {parameters}: {error.read().decode()[:500]}") from None

    def series(self, query, begin, end, instant):
        """(labels, numbers) of each series that a query gives; NaN is no number."""
        if instant:
            found = self.ask("query", query=query, time=end)["result"]
            points = [(one["metric"], [one["value"]]) for one in found]
        else:
            found = self.ask("query_range", query=query, start=begin, end=end, step="1s")["result"]
            points = [(one["metric"], one["values"]) for one in found]
        numbers = [(labels, [float(n) for _, n in values if not math.isnan(float(n))]) for labels, values in points]
        return [(labels, values) for labels, values in numbers if values]

    def label_values(self, label, selector):
        """What Grafana's label_values(selector, label) gives."""
        return sorted({one[label] for one in self.ask("series", **{"match[]": selector}) if label in one})

    def alerts(self):
        """The alerting rules as Prometheus read them."""
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"] if rule["type"] == "alerting"]

    def await_scrapes(self, seconds):
        """Returns when the targets were asked for so long."""

        def covered():
            found = self.ask("query", query=f"min_over_time(up[{seconds}s:1s])")["result"]
            counts = self.ask("query", query=f"count_over_time(up[{seconds}s:1s])")["result"]
            complete = [one for one in counts if float(one["value"][1]) >= seconds - 1]
            return len(complete) == len(found) == len(self._targets) and all(one["value"][1] == "1" for one in found)

        await_that(f"{seconds} s of scrapes", covered, pause=0.5)


def promtool(*words, text=None):
    """Runs promtool; fails with what it says when it finds anything."""
    done = subprocess.run([_program("promtool"), *map(str, words)], input=text, capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"promtool {' '.join(map(str, words))}: {done.stdout.strip()} {done.stderr.strip()}")
    return done.stdout.strip()


def _program(name):
    found = shutil.which(name)
    if not found:
        raise Failure(f"{name} is not installed: run tests/stack/prerequisites.sh")
    return found
