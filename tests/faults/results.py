"""What became of the runs, summed by fault: a file that grows by no more than its failures, so that a soak can go on where
it was left, days later and on another machine, and several can add to it at once."""

import fcntl
import json
import os
from pathlib import Path

COUNTS = ("inputs", "written", "dead", "lost", "doubled", "disordered", "wrong")
_SUMMED = ("times", *COUNTS, "aborted")


class Results:
    """A line of JSON for each fault; `add` writes it anew, whole or not at all."""

    def __init__(self, file):
        self._file = Path(file)
        self._sums = {}
        self._read()

    def add(self, result):
        """Adds a run. One that failed is kept for itself and counts as not done."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with open(self._file.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._read()
            self._sum(result)
            whole = self._file.with_suffix(".new")
            whole.write_text("".join(json.dumps(own) + "\n" for own in self._sums.values()))
            os.replace(whole, self._file)

    def _read(self):
        if self._file.exists():
            rows = [json.loads(line) for line in self._file.read_text().splitlines() if line]
            self._sums = {row["fault"]: row for row in rows}

    def _sum(self, result):
        blank = {"fault": result["fault"], "runs": 0, "recovery": 0, "first": result["at"], "failed": []}
        own = self._sums.setdefault(result["fault"], blank)
        own["runs"] += 1
        own["last"] = result["at"]
        if result["failures"]:
            own["failed"].append(result)
            return
        own["recovery"] = max(own["recovery"], result.get("recovery", 0))
        _add(own, result, _SUMMED)
        for checked, counts in result.get("each", {}).items():
            _add(own.setdefault("each", {}).setdefault(checked, {}), counts, COUNTS)

    def done(self, fault):
        """How many times a fault was done and everything held."""
        return self._sums.get(fault, {}).get("times", 0)

    @property
    def failed(self):
        """The runs that failed."""
        return [run for own in self._sums.values() for run in own["failed"]]

    @property
    def passed(self):
        """How many runs did not."""
        return sum(own["runs"] for own in self._sums.values()) - len(self.failed)

    def forget(self):
        """Begins with nothing."""
        self._sums = {}
        self._file.unlink(missing_ok=True)

    def table(self, by_database):
        """Markdown, a line for each fault; with `by_database`, for each fault and database that was checked."""
        head = ["fault", "times", "inputs", "written", "dead", "lost", "doubled", "out of order", "wrong content"]
        head += ["aborted", "recovery s, max", "failed runs"]
        keys = ["times", *COUNTS, "aborted", "recovery", "failed"]
        if by_database:  # the order cannot be seen in a table, and there are no aborted records
            head = ["fault", "checked", *(name for name in head[1:] if name not in ("out of order", "aborted"))]
            keys = [key for key in keys if key not in ("disordered", "aborted")]
        texts = 1 + by_database
        lines = ["| " + " | ".join(head) + " |", "|---" * texts + "|---:" * (len(head) - texts) + "|"]
        for _, own in sorted(self._sums.items()):
            for checked, counts in own.get("each", {"": {}}).items():
                row = {**own, **counts, "failed": len(own["failed"])}
                cells = " | ".join(f"{row.get(key, 0):,}" for key in keys)
                names = (own["fault"], checked) if by_database else (": ".join(filter(None, (own["fault"], checked))),)
                lines.append("| " + " | ".join(names) + f" | {cells} |")
        return "\n".join(lines)


def _add(to, counts, names):
    for name in names:
        to[name] = to.get(name, 0) + counts.get(name, 0)
