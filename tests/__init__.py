"""The harnesses in Python, run from the root of the checkout: `python3 -m tests.web.run`. What they share is in `tests.harness`."""
