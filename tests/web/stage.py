"""The demo with its web app, and a web app of its own process beside it on the demo's broker: no service is needed."""

import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from browser import free_port

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("PRESSLINE_TEST_BINARY", ROOT / "target/release/pressline"))
# The machine may be busy.
PATIENCE = 60


class Failure(Exception):
    """Something is not as it should be."""


def await_that(what, holds, patience=PATIENCE):
    """Asks until it holds, and gives what it gave. An error of the asking is one more `no`."""
    deadline, found = time.monotonic() + patience, None
    while time.monotonic() < deadline:
        found = holds()
        if found:
            return found
        time.sleep(0.1)
    raise Failure(f"not within {patience} s: {what}")


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
