"""Waiting for a condition, and the failure when it does not come true."""

import time

# Seconds; what is waited for comes much sooner, but on a machine that is busy with the other tests too.
PATIENCE = 240
# Longest pause between two looks: a server closes connections that are idle for long.
_LONGEST_PAUSE = 1


class Failure(Exception):
    """Something is not as it must be; the text says what."""


def await_that(what, holds, seconds=PATIENCE, pause=0.02):
    """Waits until `holds()` is true, and returns what it returned. A look that takes long is followed by a longer pause."""
    begun = looked = time.monotonic()
    while not (found := holds()):
        now = time.monotonic()
        if now - begun > seconds:
            raise Failure(f"not within {seconds} s: {what}")
        time.sleep(max(pause, min(3 * (now - looked), _LONGEST_PAUSE)))
        looked = time.monotonic()
    return found
