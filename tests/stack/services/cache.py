"""Fetches the test services once and keeps them outside the checkout, one folder per version.

The ordinary clients (mvn, pip) do the fetching, with whatever registry they are configured for. A folder is filled
under another name and renamed when complete, so that an interrupted run never leaves half of one.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

# tests/stack: recipes and programs lie beside this package.
HERE = Path(__file__).resolve().parents[1]
REQUIREMENTS = HERE.parent / "harness" / "requirements.txt"
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


def kafka_jars():
    """The folder with the jars of the test broker."""
    return _cached("kafka", HERE / "kafka" / "pom.xml", _maven)


def debezium_jars():
    """The folder with the jars of Kafka Connect and Debezium's PostgreSQL connector."""
    return _cached("debezium", HERE / "debezium" / "pom.xml", _maven)


def registry_app():
    """The folder with the unpacked schema registry."""
    return _cached("registry", HERE / "registry" / "pom.xml", _unpacked)


def clickhouse_python():
    """The Python interpreter that holds the ClickHouse engine."""
    recipe = HERE / "clickhouse" / "requirements.txt"
    return _cached(f"clickhouse-{_PYTHON}", recipe, _without_dependencies) / "bin" / "python"


def python():
    """The Python interpreter that has the packages of tests/harness/requirements.txt."""
    return _cached(_PYTHON, REQUIREMENTS, _virtual_environment) / "bin" / "python"


def superset_python():
    """The Python interpreter that has Superset."""
    return _cached(f"superset-{_PYTHON}", HERE.parent / "superset" / "requirements.txt", _virtual_environment) / "bin" / "python"


def java():
    """The path of a Java 17 or newer."""
    found = subprocess.run([HERE / "find-java.sh"], stdout=subprocess.PIPE, text=True)
    if found.returncode != 0:
        raise SystemExit(1)
    return found.stdout.strip()


def root():
    """`$PRESSLINE_CACHE`, else the user's cache directory."""
    own = os.environ.get("PRESSLINE_CACHE")
    if own:
        return Path(own).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pressline"


def _cached(name, recipe, fill):
    """The folder made by `fill` from the file `recipe`; made again only when the recipe's content changes."""
    key = hashlib.sha256(recipe.read_bytes()).hexdigest()[:12]
    ready = root() / f"{name}-{key}"
    if ready.is_dir():
        return ready
    ready.parent.mkdir(parents=True, exist_ok=True)
    with _locked(ready.with_name(f".{name}.lock")):
        if ready.is_dir():  # another run was faster
            return ready
        for killed in ready.parent.glob(f".{name}-*"):
            shutil.rmtree(killed)
        print(f"stack: fetching {name} into {ready}", file=sys.stderr, flush=True)
        half = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=ready.parent))
        try:
            fill(recipe, half)
            half.rename(ready)
        except BaseException:
            shutil.rmtree(half, ignore_errors=True)
            raise
    return ready


@contextmanager
def _locked(path):
    """Waits until no other process fills a folder of that name."""
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _maven(pom, into):
    _quietly(["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", f"-DoutputDirectory={into}"])


def _unpacked(pom, into):
    # Not Maven's own unpack-dependencies: it leaves markers beside the pom and unpacks nothing the second time.
    _maven(pom, into)
    for archive in into.glob("*.tar.gz"):
        shutil.unpack_archive(archive, into)
        archive.unlink()


def _without_dependencies(requirements, into):
    _virtual_environment(requirements, into, "--no-deps")


def _virtual_environment(requirements, into, *options):
    _quietly([sys.executable, "-m", "venv", into])
    # `python -m pip`, not the pip script: the script holds the folder's name, which changes when it is complete.
    _quietly([into / "bin" / "python", "-m", "pip", "install", "-q", "--no-input", *options, "-r", requirements])


def _quietly(command):
    """Runs a command; its output is shown only when it fails."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        print(done.stdout, file=sys.stderr)
        words = " ".join(str(word) for word in command)
        raise SystemExit(f"stack: this failed with exit code {done.returncode}: {words}")
