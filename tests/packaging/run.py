"""Units, Debian package and container image, as far as this machine can try them; what it cannot is said, with the reason.

`make packaging-test` builds the program first. PRESSLINE_TEST_INSTALL=1, as root, also installs the package on this machine,
runs what it installed, and purges it.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import unittest
from pathlib import Path

from tests.harness.paths import ROOT

PROGRAM = ROOT / "target/release/pressline"
UNITS = ROOT / "packaging/systemd"
ALL_UNITS = ("pressline.service", "pressline@.service", "pressline-reconcile@.service", "pressline-reconcile@.timer")
IS_ROOT = os.geteuid() == 0


def run(*command, **options):
    """The finished command, with its output as text."""
    options = {"cwd": ROOT, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options}
    return subprocess.run([str(word) for word in command], **options)


def systemd_analyze():
    """Its path; installed from the distribution where it is missing and may be."""
    if not shutil.which("systemd-analyze") and IS_ROOT and shutil.which("apt-get"):
        run("apt-get", "install", "-y", "--no-install-recommends", "systemd", env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    return shutil.which("systemd-analyze")


class Test(unittest.TestCase):
    """With a folder for each test, and failures that show what a command said."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="pressline-packaging-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def done(self, *command, code=0, **options):
        """The output of a command that must end with `code`."""
        done = run(*command, **options)
        self.assertEqual(done.returncode, code, f"{command}:\n{done.stdout}")
        return done.stdout


class Units(Test):
    def setUp(self):
        super().setUp()
        if not systemd_analyze():
            self.skipTest("no systemd-analyze, and it cannot be installed here")

    def copies(self):
        """The units with the program where it is."""
        for unit in ALL_UNITS:
            text = (UNITS / unit).read_text().replace("/usr/bin/pressline", str(PROGRAM))
            # The manual is not there before the package is.
            text = re.sub(r"(?m)^Documentation=.*\n", "", text)
            (self.folder / unit).write_text(text)
            yield self.folder / unit

    def test_exposure_is_at_most_1_5(self):
        for unit in (unit for unit in ALL_UNITS if unit.endswith(".service")):
            self.done("systemd-analyze", "security", "--offline=true", "--threshold=15", UNITS / unit)

    def test_an_unprotected_unit_would_not_pass(self):
        unit = self.folder / "bare.service"
        unit.write_text("[Service]\nExecStart=/bin/true\n")
        self.assertNotEqual(run("systemd-analyze", "security", "--offline=true", "--threshold=15", unit).returncode, 0)

    def test_units_are_understood(self):
        for unit in self.copies():
            name = unit.with_name(unit.name.replace("@.", "@button_presses."))
            if name != unit:
                shutil.copy(unit, name)
            said = run("systemd-analyze", "verify", name).stdout
            ours = [line for line in said.splitlines() if "pressline" in line]
            self.assertEqual(ours, [], said)

    def test_users_and_folders_are_made(self):
        root = self.folder / "root"
        (root / "etc").mkdir(parents=True)
        self.done("systemd-sysusers", f"--root={root}", UNITS.parent / "sysusers.d/pressline.conf")
        passwd = (root / "etc/passwd").read_text()
        self.assertRegex(passwd, r"(?m)^pressline:x:\d+:\d+:pressline:/:\S*nologin$")
        if not IS_ROOT:
            self.skipTest("folders of root can be made by root only")
        self.done("systemd-tmpfiles", f"--root={root}", "--create", UNITS.parent / "tmpfiles.d/pressline.conf")
        self.assertEqual((root / "etc/pressline/secrets").stat().st_mode & 0o777, 0o700)
        self.assertEqual((root / "var/lib/pressline").stat().st_mode & 0o777, 0o755)

    def test_both_units_protect_alike(self):
        def protection(unit):
            return (UNITS / unit).read_text().split("\nTimeoutStartSec")[1]

        self.assertEqual(protection("pressline.service"), protection("pressline@.service"))
        # The comparison alone writes a file that others may read, and it looks up no places: it needs no cache.
        settings = {line for line in protection("pressline@.service").splitlines() if "=" in line}
        watched = ("WatchdogSec", "Restart", "TimeoutStopSec", "UMask", "=90", "WantedBy", "CacheDirectory", "#")
        kept = {line for line in settings if not line.startswith(watched)}
        self.assertEqual(kept - set((UNITS / "pressline-reconcile@.service").read_text().splitlines()), set())
        lines = protection("pressline.service").splitlines()
        for line in ("WatchdogSec=60", "LimitCORE=0", "NoNewPrivileges=yes", "RestartPreventExitStatus=2 3"):
            self.assertIn(line, lines)
        for unit in ("pressline.service", "pressline@.service"):
            text = (UNITS / unit).read_text()
            for line in ("Type=notify", "ExecReload=+/bin/kill -HUP $MAINPID", "LoadCredential=secret:/etc/pressline/secrets", "User=pressline"):
                self.assertIn(line, text.splitlines())
            self.assertIn("\nExecStartPre=/usr/bin/pressline check", text)


class Example(Test):
    def test_the_installed_pipeline_is_the_bundled_one_with_other_paths(self):
        bundled = tomllib.loads((ROOT / "pipelines/button_presses.toml").read_text())
        installed = tomllib.loads((ROOT / "packaging/etc/pipelines/button_presses.toml").read_text())
        bundled["output"]["schema"] = installed["output"]["schema"]
        bundled["place"]["files"] = installed["place"]["files"]
        self.assertEqual(installed, bundled)

    def test_the_installed_settings_are_the_bundled_ones_with_another_schema(self):
        bundled = (ROOT / "pressline.toml").read_text().split("\n", 1)
        installed = (ROOT / "packaging/etc/pressline.toml").read_text().split("\n", 1)
        self.assertEqual(installed[1], bundled[1])
        self.assertNotEqual(installed[0], bundled[0])


class Generated(Test):
    """What `make man` has the program write for the package."""

    def test_each_command_has_a_page_with_an_example(self):
        pages = {page.stem: page.read_text() for page in (ROOT / "target/man").glob("*.1")}
        commands = re.findall(r"(?m)^  ([a-z]+) ", self.done(PROGRAM, "--help"))
        self.assertGreater(len(commands), 15)
        for command in commands:
            page = pages.get(f"pressline-{command}")
            if command == "help":
                continue
            self.assertIsNotNone(page, f"{command} has no manual page")
            self.assertIn(".SH NAME", page)
            self.assertIn(f"pressline {command}", page.replace("\\-", "-"), f"{command}: no example")
        self.assertIn("pressline-topics-create", pages)
        self.assertNotIn("pressline-man", pages, "it is hidden")
        if shutil.which("man"):
            for page in pages:
                said = run("man", "--warnings", "--local-file", ROOT / f"target/man/{page}.1", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                self.assertEqual((said.returncode, said.stderr), (0, ""), page)

    def test_shells_complete_commands_and_flags(self):
        scripts = ROOT / "target/completions"
        complete = 'COMP_WORDS=(pressline "$@"); COMP_CWORD=$#; _pressline pressline "${@: -1}" "${@: -2:1}"; echo "${COMPREPLY[@]}"'
        bash = ["bash", "-c", f'. "{scripts}/pressline.bash"; {complete}', "bash"]
        self.assertEqual(self.done(*bash, "rec").split(), ["reconcile"])
        self.assertIn("--online", self.done(*bash, "check", "--o").split())
        self.assertEqual(self.done(*bash, "ma").split(), [], "it is hidden")
        for shell, file in (("zsh", "pressline.zsh"), ("fish", "pressline.fish")):
            text = (scripts / file).read_text()
            self.assertIn("reconcile", text)
            if shutil.which(shell):
                self.done(shell, "--no-execute", scripts / file)


class Package(Test):
    def setUp(self):
        super().setUp()
        tools = f"{os.environ['PATH']}:{Path.home()}/.cache/pressline/cargo-tools/bin"
        if not shutil.which("cargo-deb", path=tools):
            self.skipTest("no cargo-deb: cargo install cargo-deb --locked")
        self.package = self.folder / "pressline.deb"
        options = ["--no-build", "--no-dbgsym", "--strip", "--fast", "--output", self.package]
        self.done("cargo", "deb", *options, env={**os.environ, "PATH": tools})

    def test_content_scripts_and_a_life_on_this_machine(self):
        content = self.done("dpkg-deb", "--contents", self.package)
        for line in (
            "-rwxr-xr-x ./usr/bin/pressline",
            "-rw-r--r-- ./etc/pressline/pressline.toml",
            "-rw-r--r-- ./etc/pressline/pipelines/button_presses.toml",
            "-rw-r--r-- ./usr/lib/systemd/system/pressline.service",
            "-rw-r--r-- ./usr/lib/systemd/system/pressline@.service",
            "-rw-r--r-- ./usr/lib/systemd/system/pressline-reconcile@.service",
            "-rw-r--r-- ./usr/lib/systemd/system/pressline-reconcile@.timer",
            "-rw-r--r-- ./usr/lib/sysusers.d/pressline.conf",
            "-rw-r--r-- ./usr/lib/tmpfiles.d/pressline.conf",
            "-rw-r--r-- ./usr/share/pressline/button_presses.avsc",
            "-rw-r--r-- ./usr/share/pressline/demo.mmdb",
            "-rw-r--r-- ./usr/share/pressline/schemas/pipeline.schema.json",
            "-rw-r--r-- ./usr/share/man/man1/pressline.1.gz",
            "-rw-r--r-- ./usr/share/man/man1/pressline-test.1.gz",
            "-rw-r--r-- ./usr/share/bash-completion/completions/pressline",
            "-rw-r--r-- ./usr/share/zsh/vendor-completions/_pressline",
            "-rw-r--r-- ./usr/share/fish/vendor_completions.d/pressline.fish",
            "-rw-r--r-- ./usr/share/doc/pressline/place-data.md",
            "-rw-r--r-- ./usr/share/doc/pressline/operations.md",
        ):
            mode, path = line.split(" ")
            self.assertRegex(content, rf"(?m)^{re.escape(mode)} 0/0 .* {re.escape(path)}$")
        control = self.folder / "control"
        self.done("dpkg-deb", "--control", self.package, control)
        self.assertEqual(
            set((control / "conffiles").read_text().split()),
            {"/etc/pressline/pressline.toml", "/etc/pressline/pipelines/button_presses.toml"},
        )
        self.assertRegex((control / "control").read_text(), r"(?m)^Depends: .*libc6 .*systemd \(>= 250\)")
        for script in ("postinst", "prerm", "postrm"):
            text = (control / script).read_text()
            self.assertNotIn("#DEBHELPER#", text)
            # Started again after an upgrade, but never by the installation.
            self.assertNotRegex(text, r"(systemctl|deb-systemd-invoke) start")
            self.done("sh", "-n", control / script)
        self.live()

    def live(self):
        """Installs, runs and purges the package."""
        if not IS_ROOT or os.environ.get("PRESSLINE_TEST_INSTALL") != "1":
            self.skipTest("built and looked into; installed only as root with PRESSLINE_TEST_INSTALL=1")
        self.assertFalse(Path("/etc/pressline").exists(), "pressline is installed here already")
        self.addCleanup(run, "dpkg", "--purge", "pressline")
        self.done("dpkg", "--install", self.package)
        self.assertEqual(Path("/etc/pressline/secrets").stat().st_mode & 0o777, 0o700)
        self.assertFalse(Path("/etc/systemd/system/multi-user.target.wants/pressline.service").exists(), "enabled")
        as_user = ["setpriv", "--reuid=pressline", "--regid=pressline", "--clear-groups"]
        said = self.done(*as_user, "/usr/bin/pressline", "check", cwd="/etc/pressline")
        self.assertIn("0 errors", said)
        Path("/etc/pressline/secrets/kafka").write_text("hush\n")
        self.done("dpkg", "--remove", "pressline")
        self.assertTrue(Path("/etc/pressline/pressline.toml").exists(), "configuration stays when it is removed")
        self.assertTrue(Path("/etc/pressline/secrets/kafka").exists())
        self.done("dpkg", "--purge", "pressline")
        for path in ("/etc/pressline", "/usr/share/pressline", "/usr/bin/pressline", "/var/lib/pressline"):
            self.assertFalse(Path(path).exists(), path)


class Image(Test):
    """The root of the final image, made by the very script that the build runs, from the files that the build has."""

    def setUp(self):
        super().setUp()
        self.root = self.folder / "root"
        self.context = self.folder / "context"
        for name in re.findall(r"(?m)^!(.+)$", (ROOT / "docker/Dockerfile.dockerignore").read_text()):
            (self.context / name).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, self.context / name)
        self.done("docker/rootfs.sh", PROGRAM, self.root, cwd=self.context)

    def inside(self, *command, code=0, etc=None):
        """Runs pressline in that root: read-only, as a user without any right."""
        if not IS_ROOT or run("unshare", "--mount", "true").returncode != 0:
            self.skipTest("made and looked into; run only where root may mount")
        if etc:
            shutil.rmtree(self.root / "etc/pressline")
            shutil.copytree(etc, self.root / "etc/pressline")
        (self.root / "proc").mkdir(exist_ok=True)
        script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && mount -t proc proc "$0/proc" && exec chroot --userspec=65532:65532 "$0" "$@"'
        chroot = ["unshare", "--mount", "sh", "-c", script, self.root, "/usr/bin/pressline", *command]
        environment = {"PRESSLINE__HTTP__LISTEN": "127.0.0.1:0"}
        return self.done(*chroot, code=code, env={"PATH": os.environ["PATH"], **environment})

    def test_it_is_built_from_files_that_docker_is_given(self):
        # Cargo's list of what it read: `TARGET: FILE FILE ...`
        read = PROGRAM.with_suffix(".d").read_text().split(": ", 1)[1].split()
        self.assertIn(str(ROOT / "src/main.rs"), read)
        files = [Path(file).relative_to(ROOT) for file in read]
        self.assertEqual([str(file) for file in files if not (self.context / file).is_file()], [])
        manifest = tomllib.loads((self.context / "Cargo.toml").read_text())
        for bench in manifest["bench"]:
            self.assertTrue((self.context / "benches" / f"{bench['name']}.rs").is_file(), "Cargo refuses the manifest without it")

    def test_it_holds_the_program_and_its_libraries_and_no_shell(self):
        files = {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}
        programs = {file for file in files if "bin/" in file}
        self.assertEqual(programs, {"usr/bin/pressline"})
        self.assertIn("etc/ssl/certs/ca-certificates.crt", files)
        # The loader says what it does not find.
        self.assertNotIn("not found", self.done("ldd", self.root / "usr/bin/pressline"))

    def test_its_own_configuration_is_sound(self):
        self.assertIn("0 errors", self.inside("check", "/etc/pressline/pipelines", "--config", "/etc/pressline/pressline.toml"))

    def test_the_configuration_of_the_compose_file_is_sound(self):
        said = self.inside(
            "check", "/etc/pressline/pipelines", "--config", "/etc/pressline/pressline.toml", etc=ROOT / "docker/pressline"
        )
        self.assertIn("0 errors", said)

    def test_it_works_read_only_without_rights(self):
        said = self.inside("demo", "--seconds", "4")
        self.assertRegex(said, r"\d+ in = \d+ out")

    def test_its_health_check_fails_where_nothing_runs(self):
        self.inside("healthcheck", "/etc/pressline/pipelines", "--config", "/etc/pressline/pressline.toml", code=1)


class Compose(Test):
    def setUp(self):
        super().setUp()
        try:
            import yaml
        except ImportError:
            self.skipTest("no PyYAML: apt install python3-yaml")
        self.file = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
        self.services = self.file["services"]

    def test_docker_compose_takes_it(self):
        if run("docker", "compose", "version").returncode != 0 if shutil.which("docker") else True:
            self.skipTest("no docker compose")
        self.done("docker", "compose", "--file", "docker/compose.yaml", "config", "--quiet")

    def test_what_it_names_is_there(self):
        for name, service in self.services.items():
            for other, how in service.get("depends_on", {}).items():
                self.assertIn(other, self.services, name)
                # Karapace's own image has a health check.
                has_check = "healthcheck" in self.services[other] or other == "karapace"
                self.assertTrue(how["condition"] != "service_healthy" or has_check, f"{name}: {other} tells no health")
            for mount in service.get("volumes", []):
                source = mount.split(":")[0]
                there = (ROOT / "docker" / source).exists() if source.startswith(".") else source in self.file["volumes"]
                self.assertTrue(there or source == "../grafana", f"{name}: {mount}")
            build = service.get("build", {})
            if build and not build["context"].startswith("https:"):
                self.assertTrue((ROOT / "docker" / build["context"] / build["dockerfile"]).is_file(), name)

    def test_three_instances_share_the_work_and_have_no_rights(self):
        processes = {name: service for name, service in self.services.items() if name.startswith("pressline-")}
        self.assertEqual(len(processes), 3)
        self.assertEqual(len({service["environment"]["PRESSLINE__INSTANCE"] for service in processes.values()}), 3)
        scraped = (ROOT / "docker/prometheus/prometheus.yml").read_text()
        for name, service in processes.items():
            self.assertTrue(service["read_only"] and service["cap_drop"] == ["ALL"] and service["ulimits"]["core"] == 0)
            self.assertIn(f'"{name}:9187"', scraped)

    def test_topics_are_made_by_pressline_and_keep_raw_addresses_for_a_week_at_most(self):
        self.assertEqual(self.services["topics"]["command"][:2], ["topics", "create"])
        pipeline = tomllib.loads((ROOT / "docker/pressline/pipelines/button_presses.toml").read_text())
        self.assertEqual(pipeline["source"]["create"]["settings"]["retention"], {"ms": "7 days"})

    def test_pages_are_published_on_loopback_only(self):
        for name, service in self.services.items():
            for port in service.get("ports", []):
                self.assertTrue(port.startswith("127.0.0.1:"), f"{name}: {port}")

    def test_the_table_of_positions_is_the_one_that_pressline_makes(self):
        def columns(text):
            return re.findall(r"(\w+)[\\\\\"]* (\w+) NOT NULL", text)

        script = (ROOT / "docker/postgres/20-loader.sh").read_text()
        source = re.sub(r"\\\n\s*", "", (ROOT / "src/sink/postgres/offsets.rs").read_text())
        statement = source.split("CREATE TABLE IF NOT EXISTS", 1)[1].split("fillfactor", 1)[0]
        # In the source, a line break is two characters.
        expected = columns(statement.replace("\\n", "\n"))
        self.assertEqual(len(expected), 7)
        self.assertEqual(columns(script), expected)

    def test_scripts_are_sound(self):
        for script in (ROOT / "docker").rglob("*.sh"):
            self.done("sh", "-n", script)


if __name__ == "__main__":
    if not PROGRAM.exists():
        sys.exit(f"{PROGRAM} is missing: make build")
    unittest.main(verbosity=2)
