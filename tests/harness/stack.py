"""The services that tests/stack/stack.py runs: their addresses, and harm done to them."""

import os
import subprocess
import sys

from tests.harness.paths import STACK
from tests.harness.waiting import Failure


def service(name):
    """An address or a login of the stack: PRESSLINE_TEST_<name>."""
    try:
        return os.environ[f"PRESSLINE_TEST_{name}"]
    except KeyError:
        raise SystemExit(f"PRESSLINE_TEST_{name} is not set: run this by tests/stack/stack.py run -- ...") from None


def stack(*words):
    """Kills or restarts a service: the words of stack.py's command line."""
    done = subprocess.run([sys.executable, str(STACK), *words], capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"stack.py {' '.join(words)}: {done.stderr.strip()}")
