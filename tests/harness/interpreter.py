"""The interpreter that has the packages of requirements.txt."""

import os
import sys

from tests.stack.services import cache


def require_packages():
    """Starts the program again in that interpreter, unless this is it. To be called before the packages are imported."""
    python = os.environ.get("PRESSLINE_TEST_PYTHON") or str(cache.python())
    if sys.executable != python:
        os.execv(python, [python, *sys.orig_argv[1:]])
