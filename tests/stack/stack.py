#!/usr/bin/env python3
"""Starts, stops and disturbs the services that the tests need, on loopback and free ports.

    stack.py run -- COMMAND...     start everything, run the command with the addresses in its environment, stop all
    stack.py up                    start everything, or what of it does not run, and print the addresses
    stack.py up --empty            the same on empty data: what ran and its data go first
    stack.py down                  stop everything
    stack.py env                   print the addresses as shell exports: eval "$(tests/stack/stack.py env)"
    stack.py kill SERVICE [-9|-15|-STOP|-CONT]
    stack.py restart SERVICE       kill -9 unless it is down already, then start on the data it has
    stack.py fetch                 only fill the cache

Services are kafka, registry, registry-tls, postgres and clickhouse; pgbouncer starts on its first `restart`. Data, logs and
pid files lie under target/stack, or in the folder that PRESSLINE_STACK_FOLDER names: each folder has services of its own,
side by side with others. Every `run` and the first `up` after a `down` start empty; `run` refuses where an `up` runs. `up`
takes the usual ports where they are free. Where PRESSLINE_TEST_BOOTSTRAP and PRESSLINE_TEST_REGISTRY are set already, `run`
starts nothing and uses those; tests that need a database then need its PRESSLINE_TEST_ variables set as well.

clickhouse is the real engine behind a small HTTP server (clickhouse_front.py), which also makes failures on order.
"""

import argparse
import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from services import cache, certificates, ports
from services.clickhouse import ClickHouse
from services.kafka import Kafka
from services.pgbouncer import PgBouncer
from services.postgres import Postgres
from services.process import Failed, Process
from services.registry import ProtectedRegistry, Registry, RegistryAtRoot

FOLDER = Path(os.environ.get("PRESSLINE_STACK_FOLDER") or cache.HERE.parents[1] / "target" / "stack").resolve()
STATE = FOLDER / "state.json"
SERVICES = {
    "kafka": Kafka,
    "registry": Registry,
    "registry-tls": ProtectedRegistry,
    "postgres": Postgres,
    "clickhouse": ClickHouse,
}
# What people find at pressline.toml's address; tests need it not.
FOR_PEOPLE = {"registry-at-root": RegistryAtRoot}
# What a test starts by `restart`, since few need it.
ON_DEMAND = {"pgbouncer": PgBouncer}
# What `up` takes where nobody else has it, so that pressline.toml and the databases' own tools work as they are.
USUAL_PORTS = {"plain_port": 9092, "registry_at_root_port": 8081, "postgres_port": 5432, "clickhouse_port": 8123}
DATA = ["kafka", "postgres", "pgbouncer", "clickhouse", "tls"]
COMMAND = "command"  # its pid file lies beside those of the services
SIGNALS = {"-9": signal.SIGKILL, "-15": signal.SIGTERM, "-STOP": signal.SIGSTOP, "-CONT": signal.SIGCONT}


def main():
    command, arguments = _arguments()
    # A plain exit, so that `finally` runs; during `run` the command is told first (see _run_command). SIGINT is set
    # too: a shell starts background jobs with it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(128 + signal.SIGHUP))
    try:
        return command(*arguments)
    except Failed as failure:
        _say(failure)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def up(empty=False):
    """Starts everything, or what of it does not run, and leaves it running."""
    with _only_one():
        if _is_kept() and not empty:
            _start_missing()
        else:
            _start_all(SERVICES | FOR_PEOPLE, USUAL_PORTS)
    _print_addresses()
    return 0


def down():
    """Stops everything, whoever started it."""
    _stop_all()
    return 0


def env():
    """Prints the addresses of what runs."""
    _print_exports(_state()["environment"])
    return 0


def fetch():
    """Fills the cache."""
    cache.kafka_jars()
    cache.registry_app()
    cache.clickhouse_python()
    cache.python()
    return 0


def run(command):
    """Runs the command among the services; its exit code."""
    own = dict(os.environ)
    if own.get("PRESSLINE_TEST_BOOTSTRAP") and own.get("PRESSLINE_TEST_REGISTRY"):
        _say("using the services that PRESSLINE_TEST_BOOTSTRAP and PRESSLINE_TEST_REGISTRY name")
        return _run_command(command, {"PRESSLINE_TEST_PYTHON": str(cache.python()), **own}, None)
    with _only_one():
        if _is_kept():
            raise Failed(
                f"the services of `make stack-up` are in {FOLDER}; stop them (make stack-down), or set "
                "PRESSLINE_STACK_FOLDER to another folder"
            )
        try:
            return _run_command(command, own | _start_all(), Process(FOLDER, COMMAND))
        finally:
            _stop_all()


def kill(service, number):
    """Sends a signal to a service; 1 when it does not run."""
    process = (SERVICES | ON_DEMAND)[service](FOLDER, _state()["ports"])
    if number == signal.SIGKILL:
        alive = process.pid() is not None
        process.kill()
    else:
        alive = process.send(number)
    if not alive:
        _say(f"{service} does not run")
    return 0 if alive else 1


def restart(service):
    """Starts a service again on its data and ports."""
    state = _state()
    process = (SERVICES | ON_DEMAND)[service](FOLDER, state["ports"])
    process.kill()
    _start_again([process], state)
    return 0


def _is_kept():
    """Whether an `up` has not been ended by a `down`."""
    return STATE.exists() and _state().get("kept", False)


def _start_missing():
    """Starts what ended by itself, on the data it has."""
    state = _state()
    processes = [service(FOLDER, state["ports"]) for service in (SERVICES | FOR_PEOPLE).values()]
    missing = [process for process in processes if process.pid() is None]
    if missing:
        _say(f"starting again on its data: {', '.join(process.name for process in missing)}")
        _start_again(missing, state)
    else:
        _say("is running already; nothing was changed (`make stack-down stack-up` starts empty)")


def _start_again(processes, state):
    for process in processes:
        process.launch()
    for process in processes:
        process.await_ready()
    state["environment"] |= _pids(processes)
    _write_state(state)


def _start_all(services=SERVICES, usual_ports=None):
    """Starts all services on empty data; the environment for tests. With usual ports: to be kept until `down`."""
    _stop_all()
    fetch()
    # Ports are free until somebody listens, so of several that start at once each waits for the one before.
    with open(cache.root() / ".starting.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _launch_all(services, usual_ports)


def _launch_all(services, usual_ports):
    begun = time.monotonic()
    for leftover in (FOLDER / name for name in DATA):
        shutil.rmtree(leftover, ignore_errors=True)
    for log in FOLDER.glob("*.log"):
        log.unlink()
    certificates.make(FOLDER / "tls")
    all_services = (services | ON_DEMAND).values()
    numbers = ports.free([name for service in all_services for name in service.PORTS], usual_ports)
    processes = [service(FOLDER, numbers) for service in services.values()]
    on_demand = [service(FOLDER, numbers) for service in ON_DEMAND.values()]
    try:
        for process in processes:  # all at once, then wait for each: the Java machines start side by side
            process.create()
            process.launch()
        for process in on_demand:
            process.create()
        for process in processes:
            process.await_ready()
    except BaseException:
        _stop_all()
        raise
    environment = {"PRESSLINE_TEST_STACK": str(STATE), "PRESSLINE_TEST_PYTHON": str(cache.python())} | _pids(processes)
    for process in processes + on_demand:
        environment |= process.environment()
    _write_state({"ports": numbers, "environment": environment, "kept": usual_ports is not None})
    _say(f"{', '.join(services)} ready after {time.monotonic() - begun:.1f} s, logs in {FOLDER}")
    return environment


def _stop_all():
    """Stops whatever the pid files name, also what an interrupted run left behind."""
    Process(FOLDER, COMMAND).stop()
    services = (SERVICES | FOR_PEOPLE | ON_DEMAND).values()
    unknown = dict.fromkeys((name for service in services for name in service.PORTS), 0)
    for service in reversed(services):
        service(FOLDER, unknown).stop()
    STATE.unlink(missing_ok=True)


def _run_command(command, environment, remembered):
    """Runs the command in a process group of its own, so that no grandchild of it outlives the services."""
    try:
        child = subprocess.Popen(command, env=environment, start_new_session=True)
    except OSError as error:
        raise Failed(f"cannot run {command[0]}: {error.strerror}") from None
    try:
        if remembered:  # by a pid file, for the case that we are killed and cannot stop it
            remembered.adopt(child)
        return _exit_code(child.wait())
    except BaseException:
        _signal_group(child, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=15)
        raise
    finally:
        _signal_group(child, signal.SIGKILL)
        child.wait()


def _signal_group(child, number):
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _exit_code(returned):
    """As a shell gives it: 128 + signal for a process that a signal ended."""
    return 128 - returned if returned < 0 else returned


@contextmanager
def _only_one():
    """Refuses to disturb another `run` or `up` of this checkout; the kernel frees the lock of a process that died."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed(f"another run uses {FOLDER}; wait for it to end") from None
        yield


def _pids(processes):
    return {f"PRESSLINE_TEST_{process.name.upper().replace('-', '_')}_PID": str(process.pid()) for process in processes}


def _state():
    try:
        return json.loads(STATE.read_text())
    except FileNotFoundError:
        raise Failed("the services do not run; start them with `make stack-up`") from None


def _write_state(state):
    STATE.with_suffix(".new").write_text(json.dumps(state, indent=2) + "\n")
    STATE.with_suffix(".new").rename(STATE)


def _say(text):
    print(f"stack: {text}", file=sys.stderr, flush=True)  # standard output is for the exports


def _print_addresses():
    state = _state()
    environment = state["environment"]
    kafka = environment["PRESSLINE_TEST_BOOTSTRAP"]
    registry = RegistryAtRoot(FOLDER, state["ports"]).address

    def login(database):
        user, password, name = (environment[f"PRESSLINE_TEST_{database}_{key}"] for key in ("USER", "PASSWORD", "DATABASE"))
        return f"database {name}, user {user}, password {password}"

    print(f"kafka       {kafka}")
    print(f"registry    {registry}")
    print(f"postgres    {environment['PRESSLINE_TEST_POSTGRES']}  {login('POSTGRES')}")
    print(f"clickhouse  {environment['PRESSLINE_TEST_CLICKHOUSE']}  {login('CLICKHOUSE')}")
    if (kafka, registry) == (f"{ports.LOOPBACK}:9092", f"http://{ports.LOOPBACK}:8081"):
        print("Kafka and registry are where pressline.toml says.")
    else:
        print("The usual ports are taken. Tell pressline, in each shell:")
        print(f"  export PRESSLINE__KAFKA__BOOTSTRAP_SERVERS={kafka}")
        print(f"  export PRESSLINE__REGISTRY__URL={registry}")


def _print_exports(environment):
    for name, value in environment.items():
        print(f"export {name}={shlex.quote(value)}")


def _arguments():
    """The function to call and its arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    starting = commands.add_parser("up", help=up.__doc__)
    starting.add_argument("--empty", action="store_true", help="stop what runs and remove its data first")
    for plain in (down, env, fetch):
        commands.add_parser(plain.__name__, help=plain.__doc__).set_defaults(call=plain)
    commands.add_parser("restart", help=restart.__doc__).add_argument("service", choices=SERVICES | ON_DEMAND)
    for greedy in (run, kill):  # what follows may begin with a dash
        commands.add_parser(greedy.__name__, help=greedy.__doc__).add_argument("words", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    if given.command == "up":
        return up, [given.empty]
    if given.command == "restart":
        return restart, [given.service]
    if given.command == "run":
        command = given.words[1:] if given.words[:1] == ["--"] else given.words
        return run, [command] if command else parser.error("run needs a command")
    if given.command == "kill":
        service, number, *more = [*given.words, "-9"] if len(given.words) == 1 else [*given.words, "", ""]
        if service not in SERVICES | ON_DEMAND or number not in SIGNALS or any(more):
            names = ", ".join(SERVICES | ON_DEMAND)
            parser.error(f"kill needs a service ({names}) and a signal ({', '.join(SIGNALS)}; else -9)")
        return kill, [service, SIGNALS[number]]
    return given.call, []


if __name__ == "__main__":
    sys.exit(main())
