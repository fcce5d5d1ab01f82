"""Where things lie in the checkout."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STACK = ROOT / "tests" / "stack" / "stack.py"
