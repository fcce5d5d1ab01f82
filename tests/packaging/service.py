"""The units under a real systemd, in a PID namespace of its own on an overlay of this machine's root: start, readiness,
credentials, sandbox, reload, watchdog, a mistake in the configuration, stop. With a real Kafka and registry:

    tests/stack/stack.py run -- python3 -m tests.packaging.service

Needs root, systemd, overlayfs and cgroup v2; where one is missing it says so, and passes.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import unittest
import urllib.request
from pathlib import Path

from tests.packaging.run import IS_ROOT, PROGRAM, ROOT, Test, run, systemd_analyze

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    PAGES = f"127.0.0.1:{free.getsockname()[1]}"
WATCHDOG_SECONDS = 6
_DROP_IN = f"""[Service]
WatchdogSec={WATCHDOG_SECONDS}
TimeoutAbortSec=2
RestartSec=1
Environment=PRESSLINE__HTTP__LISTEN={PAGES}
"""


class Service(Test):
    """One life of the service; each step goes on from the one before."""

    def setUp(self):
        super().setUp()
        missing = self.missing()
        if missing:
            self.skipTest(missing)
        for name in ("layer", "root", "files"):
            (self.folder / name).mkdir()
        self.install()
        self.boot()
        if self.ask("systemctl", "start", "probe")[0]:
            said = self.ask("journalctl", "--no-pager", "--output=cat", "--unit=probe")[1]
            self.skipTest(f"the units' sandbox cannot be made here, not even around `true`: {said}")

    @staticmethod
    def missing():
        """What keeps this test from running here, if anything."""
        if not IS_ROOT:
            return "only root can make the namespaces"
        if not systemd_analyze() or not Path("/lib/systemd/systemd").exists():
            return "no systemd, and it cannot be installed here"
        if not os.environ.get("PRESSLINE_TEST_BOOTSTRAP_SASL"):
            return "no Kafka: run it by tests/stack/stack.py run --"
        kinds = Path("/proc/filesystems").read_text().split()
        if not {"overlay", "cgroup2"} <= set(kinds):
            return "no overlayfs or no cgroup v2"
        tried = run("unshare", "--mount", "--pid", "--fork", "sh", "-c", "mount -t tmpfs tmpfs /mnt")
        return f"no namespaces or mounts: {tried.stdout}" if tried.returncode else None

    def file(self, path, text, mode=0o644):
        """A file that the booted system finds."""
        target = self.folder / "files" / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def install(self):
        """What the package would, by its own list, and a configuration for the brokers of the tests."""
        package = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["metadata"]["deb"]
        for source, target, mode in package["assets"]:
            for path in sorted(ROOT.glob(source)):
                name = self.folder / "files" / (target + path.name if target.endswith("/") else target)
                name.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, name)
                name.chmod(int(mode, 8))
        for unit in ("pressline.service", "pressline@.service"):
            shutil.copy(ROOT / "packaging/systemd" / unit, self.folder / "files/usr/lib/systemd/system")
            self.file(f"/etc/systemd/system/{unit}.d/test.conf", _DROP_IN)
        # The same sandbox around nothing: where that cannot be made, it is the machine that lacks something.
        ours = ("Exec", "Type=", "NotifyAccess", "Watchdog", "Restart", "Working", "Timeout", "Install", "WantedBy")
        lines = (ROOT / "packaging/systemd/pressline.service").read_text().splitlines()
        probe = [line for line in lines if not line.lstrip("[").startswith(ours)]
        probe.append("Type=oneshot\nExecPaths=/usr /lib /lib64\nExecStart=/usr/bin/true\n")
        self.file("/etc/systemd/system/probe.service", "\n".join(probe))
        # By a listener that asks for a password, which only systemd can read.
        self.configuration = (
            f'[kafka]\nbootstrap_servers = "{os.environ["PRESSLINE_TEST_BOOTSTRAP_SASL"]}"\n[kafka.sasl]\n'
            f'mechanism = "PLAIN"\nusername = "{os.environ["PRESSLINE_TEST_SASL_USER"]}"\nplaintext = true\n'
            'password_file = "/run/credentials/UNIT/secret_kafka"\n'
            f'[registry]\nurl = "{os.environ["PRESSLINE_TEST_REGISTRY"]}"\n'
        )
        self.file("/etc/pressline/pressline.toml", self.configuration.replace("UNIT", "pressline.service"))
        self.file("/etc/pressline/secrets/kafka", os.environ["PRESSLINE_TEST_SASL_PASSWORD"], 0o600)
        made = run(
            PROGRAM, "topics", "create", "--set", f"kafka.bootstrap_servers={os.environ['PRESSLINE_TEST_BOOTSTRAP']}"
        )
        self.assertEqual(made.returncode, 0, made.stdout)

    def boot(self):
        """Starts systemd, and waits until it takes orders."""
        self.log = self.folder / "boot.log"
        with open(self.log, "w") as log:
            self.outer = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--kill-child",
                 str(ROOT / "tests/packaging/boot.sh"), str(self.folder)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=self.own_group())
        self.addCleanup(self.outer.wait)
        self.addCleanup(self.outer.kill)
        booted = lambda: self.outer.poll() is not None or "running" in self.ask("systemctl", "is-system-running")[1]
        self.until("systemd to boot", booted, 60)
        if self.outer.poll() is not None:
            self.skipTest(f"systemd cannot be booted here: {self.log.read_text()}")

    def own_group(self):
        """Where this machine's services live in control groups v2: what puts a process into a new one, below ours. The
        booted systemd takes that for all there is."""
        ours = re.search(r"(?m)^0::(/.*)$", Path("/proc/self/cgroup").read_text())
        if not ours or not Path("/sys/fs/cgroup/cgroup.procs").exists():
            return None  # nobody uses v2 here
        group = Path("/sys/fs/cgroup") / ours[1].lstrip("/") / f"pressline-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError as error:
            self.skipTest(f"no control group can be made here: {error}")
        self.addCleanup(lambda: run("find", group, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"))
        return lambda: (group / "cgroup.procs").write_text(str(os.getpid()))

    def until(self, what, holds, seconds=30):
        """Waits; fails with the service's journal."""
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                self.fail(f"waited {seconds} s for {what}:\n{self.log.read_text()}\n{self.journal()[-3000:]}")
            time.sleep(0.2)

    def init(self):
        """The booted systemd's process, as this machine numbers it; "" before there is one."""
        return Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().partition(" ")[0]

    def ask(self, *command):
        """Exit code and output of a command inside."""
        init = self.init()
        if not init:
            return 1, ""
        inside = ["nsenter", "--target", init, "--mount", "--pid", "--ipc", "--uts", "--root", "--wd=/"]
        done = run(*inside, *command, timeout=60)
        return done.returncode, done.stdout

    def systemctl(self, *words, code=0):
        found, said = self.ask("systemctl", *words)
        self.assertEqual(found, code, f"systemctl {' '.join(words)}: {said}\n{self.journal()[-3000:]}")
        return said

    def show(self, name, unit="pressline"):
        return self.systemctl("show", "--property", name, "--value", unit).strip()

    def journal(self):
        return self.ask("journalctl", "--no-pager", "--output=cat", "--unit=pressline*")[1]

    def page(self, path):
        with urllib.request.urlopen(f"http://{PAGES}{path}", timeout=5) as answer:
            return answer.read().decode()

    def relays(self, count):
        """Presses that are sent come out."""
        made = run(PROGRAM, "generate", "--count", count, "--malformed", "0", "--bootstrap-servers",
                   os.environ["PRESSLINE_TEST_BOOTSTRAP"], "--mmdb", ROOT / "data/demo.mmdb")
        self.assertEqual(made.returncode, 0, made.stdout)
        written = lambda: sum(map(float, re.findall(r"^pressline_records_written_total\S* (\S+)$", self.page("/metrics"), re.M)))
        self.until(f"{count} presses to be relayed", lambda: written() >= count)

    def test_a_life(self):
        self.systemctl("start", "pressline")
        self.assertEqual(self.show("ActiveState"), "active")
        self.assertEqual(self.page("/readyz").strip()[:5], "ready", "it was told to be up before it was ready")
        self.relays(500)
        self.sandbox()
        self.reload()
        self.watchdog()
        self.mistake()
        self.stop()
        self.one_process_a_pipeline()

    def sandbox(self):
        """The user has no rights, the process dumps no core, and there is nothing that it may write."""
        pid = self.show("MainPID")
        status = self.ask("cat", f"/proc/{pid}/status")[1]
        for line in (r"NoNewPrivs:\t1", r"Seccomp:\t2", r"CapEff:\t0+", r"CapBnd:\t0+", r"CapAmb:\t0+"):
            self.assertRegex(status, f"(?m)^{line}$")
        self.assertEqual(self.ask("stat", "--format=%U", f"/proc/{pid}")[1].strip(), "pressline")
        self.assertRegex(self.ask("cat", f"/proc/{pid}/limits")[1], r"(?m)^Max core file size +0 +0 ")
        mounts = self.ask("cat", f"/proc/{pid}/mountinfo")[1]
        self.assertRegex(mounts, r"(?m)^\S+ \S+ \S+ \S+ / ro,", "its root can be written")
        environment = self.ask("cat", f"/proc/{pid}/environ", f"/proc/{pid}/cmdline")[1]
        self.assertNotIn(os.environ["PRESSLINE_TEST_SASL_PASSWORD"], environment)

    def reload(self):
        self.systemctl("reload", "pressline")
        self.until("the GeoIP databases to be read again", lambda: "GeoIP database replaced" in self.journal())
        self.assertEqual(self.show("NRestarts"), "0")

    def watchdog(self):
        """A process that stands still is ended and started anew, and what comes then is relayed."""
        time.sleep(WATCHDOG_SECONDS + 2)
        self.assertEqual(self.show("NRestarts"), "0", "the watchdog bit a process that was well")
        self.systemctl("kill", "--signal=STOP", "--kill-who=main", "pressline")
        self.until("the watchdog", lambda: self.show("NRestarts") == "1", 30)
        self.assertIn("Watchdog timeout", self.ask("journalctl", "--no-pager", "--output=cat")[1])
        self.until("the next process", lambda: self.show("ActiveState") == "active")
        self.relays(300)

    def mistake(self):
        """A configuration with a mistake is told in the journal, and keeps the unit from starting."""
        self.systemctl("stop", "pressline")
        self.inside("/etc/pressline/pressline.toml", self.configuration.replace("[registry]\nurl", "[registry]\nurll"))
        self.assertNotEqual(self.ask("systemctl", "start", "pressline")[0], 0)
        self.assertIn("urll", self.journal())
        self.inside("/etc/pressline/pressline.toml", self.configuration.replace("UNIT", "pressline.service"))
        self.systemctl("reset-failed", "pressline")
        self.systemctl("start", "pressline")

    def stop(self):
        begun = time.monotonic()
        self.systemctl("stop", "pressline")
        self.assertLess(time.monotonic() - begun, 15)
        self.assertEqual((self.show("ActiveState"), self.show("Result")), ("inactive", "success"))

    def one_process_a_pipeline(self):
        unit = "pressline@button_presses"
        self.inside("/etc/pressline/pressline.toml", self.configuration.replace("UNIT", f"{unit}.service"))
        self.systemctl("start", unit)
        self.assertEqual(self.show("ActiveState", unit), "active")
        self.relays(100)
        self.systemctl("stop", unit)
        self.assertEqual(self.show("Result", unit), "success")

    def inside(self, path, text):
        """Writes a file of the running system."""
        Path(f"/proc/{self.init()}/root{path}").write_text(text)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was booted ends too
    tempfile.tempdir = "/var/tmp"  # /tmp may be the overlay's own
    unittest.main(verbosity=2)
