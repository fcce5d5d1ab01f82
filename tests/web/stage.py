"""The demo with its web app, and a web app of its own process beside it on the demo's broker: no service is needed."""

import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import traceback
import urllib.request
from pathlib import Path

from tests.harness.browser import free_port
from tests.harness.paths import ROOT
from tests.harness.waiting import Failure, await_that

BINARY = Path(os.environ.get("PRESSLINE_TEST_BINARY", ROOT / "target/release/pressline"))


def run_each(tests, only, subject):
    """Runs those tests that have `only` in their name, each on `subject`; prints what became of them. The exit code."""
    passed = failed = 0
    for test in (test for test in tests if only in test.__name__):
        began = time.monotonic()
        try:
            test(subject)
            passed += 1
            print(f"ok     {test.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED {test.__name__}\n{traceback.format_exc()}", flush=True)
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


class Demo:
    """`pressline demo`: `page`, `broker` and `registry` are its addresses."""

    def __init__(self, rate=20):
        command = [BINARY, "demo", "--rate", str(rate)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tempfile.gettempdir())
        self.lines = []
        self.page = self._next().split()[0]
        while not self.lines[-1].startswith("time UTC"):
            words = self._next().split()
            if words[:1] == ["Kafka"]:
                self.broker = words[1]
            if words[:1] == ["registry"]:
                self.registry = words[1]
        threading.Thread(target=self._drain, daemon=True).start()

    def _next(self):
        line = self.process.stdout.readline()
        if not line:
            raise Failure(f"the demo ended: {self.lines}")
        self.lines.append(line)
        return line

    def _drain(self):
        self.lines.extend(self.process.stdout)

    def end(self):
        self.process.kill()
        self.process.wait()


class WebApp:
    """`pressline web` on the broker and registry of `services` (a demo, or real ones), always on the same port."""

    def __init__(self, services, folder, pipeline=ROOT / "pipelines/button_presses.toml", **sets):
        self.port, self.metrics_port, self.folder = free_port(), free_port(), Path(folder)
        self.page = f"http://127.0.0.1:{self.port}/"
        self.process = None
        settings = {
            "kafka.bootstrap_servers": services.broker,
            "registry.url": services.registry,
            "web.listen": f"127.0.0.1:{self.port}",
            "web.metrics_listen": f"127.0.0.1:{self.metrics_port}",
            "web.made_up_address": "true",
            **sets,
        }
        self.command = [BINARY, "web", "--pipeline", pipeline]
        self.command += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]

    def start(self):
        with open(self.folder / "web.log", "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self.folder)
        await_that("the web app serves", self._serves)

    def _serves(self):
        if self.process.poll() is not None:
            raise Failure(f"the web app ended: {self.log()}")
        try:
            return urllib.request.urlopen(self.page + "about", timeout=5).status == 200
        except OSError:
            return False

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        if code != 0:
            raise Failure(f"the web app ended with {code}: {self.log()}")

    def log(self):
        return (self.folder / "web.log").read_text()

    def metric(self, name):
        """The sum of a metric over its labels."""
        page = urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10).read().decode()
        values = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE)
        return sum(map(float, values))

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
