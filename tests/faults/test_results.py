"""Tests of results.py: what is done adds up, over several starts, and a failure does not count as done."""

import tempfile
import unittest
from pathlib import Path

from tests.faults.results import COUNTS, Results
from tests.harness.paths import ROOT

DOCS = ROOT / "docs"


def run(fault, times, failures=(), recovery=1.0, **more):
    """A run's result, each count of it 10."""
    counts = dict.fromkeys((*COUNTS, "aborted"), 10)
    return {"fault": fault, "times": times, "failures": list(failures), "recovery": recovery, "at": "now", **counts, **more}


class OfResults(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "made" / "soak.jsonl"

    def test_goes_on_where_it_was_left(self):
        Results(self.file).add(run("kill", 5, recovery=3))
        Results(self.file).add(run("kill", 5, recovery=2))
        again = Results(self.file)
        self.assertEqual((again.done("kill"), again.done("stall"), again.passed), (10, 0, 2))
        row = again.table(False).splitlines()[2:]
        self.assertEqual(row, ["| kill | 10 | 20 | 20 | 20 | 20 | 20 | 20 | 20 | 20 | 3 | 0 |"])

    def test_a_failure_is_kept_and_is_not_done(self):
        Results(self.file).add(run("kill", 5))
        Results(self.file).add(run("kill", 5, ["input 3/7 is lost"]))
        again = Results(self.file)
        self.assertEqual((again.done("kill"), again.passed, len(again.failed)), (5, 1, 1))
        self.assertEqual(again.failed[0]["failures"], ["input 3/7 is lost"])
        self.assertTrue(again.table(False).endswith("| 10 | 10 | 1.0 | 1 |"))

    def test_databases_are_summed_apart(self):
        for number in (1, 2):
            each = {"postgres": dict.fromkeys(COUNTS, number), "clickhouse": dict.fromkeys(COUNTS, 100)}
            Results(self.file).add(run("kill", 5, each=each))
        rows = Results(self.file).table(True).splitlines()[2:]
        self.assertEqual(rows[0], "| kill | postgres | 10 | 3 | 3 | 3 | 3 | 3 | 3 | 1.0 | 0 |")
        self.assertTrue(rows[1].startswith("| kill | clickhouse | 10 | 200 |"))

    def test_pipelines_are_summed_apart(self):
        each = {"presses": dict.fromkeys(COUNTS, 1), "orders": dict.fromkeys(COUNTS, 2)}
        Results(self.file).add(run("kill", 5, each=each))
        rows = Results(self.file).table(False).splitlines()[2:]
        self.assertEqual(rows[0], "| kill: presses | 5 | 1 | 1 | 1 | 1 | 1 | 1 | 1 | 10 | 1.0 | 0 |")
        self.assertTrue(rows[1].startswith("| kill: orders | 5 | 2 |"))

    def test_two_add_to_one_file(self):
        one, other = Results(self.file), Results(self.file)
        one.add(run("kill", 5))
        other.add(run("stall", 5))
        one.add(run("stall", 5))
        again = Results(self.file)
        self.assertEqual((again.done("kill"), again.done("stall"), one.done("stall")), (5, 10, 10))

    def test_the_documentation_has_the_tables_of_the_results_it_keeps(self):
        text = (DOCS / "soak.md").read_text()
        for suite in ("soak", "load-soak"):
            self.assertIn(Results(DOCS / "soak" / f"{suite}.jsonl").table(suite == "load-soak"), text)

    def test_forgets_when_told(self):
        results = Results(self.file)
        results.add(run("kill", 5))
        results.forget()
        self.assertEqual((results.done("kill"), Results(self.file).done("kill")), (0, 0))


if __name__ == "__main__":
    unittest.main()
