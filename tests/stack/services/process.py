"""One service process: started in a group of its own, remembered in a pid file, stopped with all its children."""

import os
import signal
import subprocess
import time
from pathlib import Path


class Failed(Exception):
    """A service did not come up; the text says which and shows the end of its log."""


class Process:
    """A service whose pid file and log lie in `folder`; another process with the same folder finds it again."""

    def __init__(self, folder, name):
        self.name = name
        self.log = Path(folder) / f"{name}.log"
        self._pid_file = Path(folder) / f"{name}.pid"
        self._child = None
        self._log_start = 0

    def start(self, command):
        """Starts the command in the background, its output appended to the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            self._log_start = log.tell()
            child = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.adopt(child)

    def adopt(self, child):
        """Takes over a child that was started as the leader of its group."""
        self._child = child
        self._pid_file.write_text(f"{child.pid} {start_time(child.pid)}\n")

    def wait_until(self, ready, seconds=120):
        """Waits until `ready()` is true; raises `Failed` when the process ends or the time is over."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self._child.poll() is not None:
                raise Failed(self._report(f"ended with exit code {self._child.returncode} while starting"))
            if time.monotonic() > deadline:
                raise Failed(self._report(f"was not ready within {seconds} s"))
            time.sleep(0.1)

    def has_logged(self, text):
        """Whether the log holds the text since the last start."""
        with open(self.log, "rb") as log:
            log.seek(self._log_start)
            return text.encode() in log.read()

    def pid(self):
        """The process id, or None when the service does not run."""
        try:
            pid, started = self._pid_file.read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        # The start time tells our process from a later one that was given the same id.
        return int(pid) if start_time(pid) == started else None

    def send(self, number):
        """Sends a signal to the whole group; false when the service does not run."""
        pid = self.pid()
        if pid is None:
            return False
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return False
        return True

    def stop(self, patience=10):
        """Ends the service: asks first, kills after `patience` seconds, waits until it is gone."""
        pid = self.pid()
        if pid is not None:
            self.send(signal.SIGCONT)  # a stopped process would not hear the next one
            self.send(signal.SIGTERM)
            if not self._gone_within(patience):
                self.send(signal.SIGKILL)
                self._gone_within(10)
        self._pid_file.unlink(missing_ok=True)

    def kill(self):
        """Ends the service as kill -9 does, and waits until it is gone."""
        if self.send(signal.SIGKILL):
            self._gone_within(10)

    def _gone_within(self, seconds):
        deadline = time.monotonic() + seconds
        while self.pid() is not None:
            if self._child is not None:
                self._child.poll()  # takes leave of our own child, which else stays as a zombie
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _report(self, what):
        lines = self.log.read_text(errors="replace").splitlines()[-40:]
        return "\n".join([f"{self.name} {what}; the end of {self.log}:", *(f"    {line}" for line in lines)])


def start_time(pid):
    """The kernel's start time of a live process as text; None when it is gone or only a zombie."""
    try:
        # The second field is the command's name in brackets and may hold spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]
