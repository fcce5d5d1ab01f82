"""What is done to a service that several worlds share: once, when all are ready for it."""

import threading
import time


class BrokenOff(Exception):
    """Another of the worlds failed: what this one would have shown is not known."""


class Together:
    """The worlds that a service's fault hits at once. Each calls for the same actions, the same number of times."""

    def __init__(self, worlds):
        self._barrier = threading.Barrier(worlds, self._act)
        self._action, self._begun, self._error = None, 0.0, None

    def do(self, action):
        """Has `action` done by one of the worlds when all have come; the time at which it began."""
        self._action = action
        try:
            self._barrier.wait()
        except threading.BrokenBarrierError:
            if self._error is not None:
                raise self._error from None
            raise BrokenOff from None
        return self._begun

    def _act(self):
        self._begun = time.monotonic()
        try:
            self._action()
        except Exception as error:  # every world's
            self._error = error
            raise

    def break_off(self):
        """One has failed: the others do not wait for it."""
        self._barrier.abort()
