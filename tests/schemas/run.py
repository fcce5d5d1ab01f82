"""The JSON Schemas in schemas/: they are what the program prints, what is shipped and shown is valid by them, and known mistakes are
not. The judge is jsonschema, which knows nothing of pressline."""

import json
import re
import subprocess
import tomllib
import unittest

from tests.harness import interpreter

interpreter.require_packages()

from jsonschema import Draft202012Validator  # noqa: E402

from tests.harness.paths import ROOT  # noqa: E402

PROGRAM = ROOT / "target/release/pressline"
SCHEMAS = {of: ROOT / f"schemas/{of}.schema.json" for of in ("pipeline", "pressline", "test")}

RELAY = """
[source]
topic = "in"
[output]
topic = "out"
"""
SINK = """
[sink.postgres]
database = "d"
user = "u"
table = "t"
"""
# What is wrong, in which kind of file, and the key that is complained of.
MISTAKES = [
    ("a misspelt table", "pipeline", RELAY + "[sorce]\ntopic = 'x'", "sorce"),
    ("a misspelt key", "pipeline", RELAY.replace("topic = \"in\"", "topik = \"in\""), "topik"),
    ("text for a number", "pipeline", "workers = '4'\n" + RELAY, "workers"),
    ("a number for text", "pipeline", RELAY.replace('"in"', "7"), "topic"),
    ("a negative number", "pipeline", RELAY + "[batch]\nmax_records = -1", "max_records"),
    ("a delivery that there is not", "pipeline", "delivery = 'at_most_once'\n" + RELAY, "at_most_once"),
    ("a transform of two things", "pipeline", RELAY + "[[transforms]]\nfilter = 'a > 1'\ndrop = ['b']", "transforms"),
    ("a transform of nothing", "pipeline", RELAY + "[[transforms]]\nprefix = 'a_'", "transforms"),
    ("a route to nowhere", "pipeline", RELAY + "[[transforms]]\nroute = 'a > 1'", "topic"),
    ("a file with neither source nor sink", "pipeline", "name = 'p'", "not valid under any"),
    ("a relay's key without a relay", "pipeline", "workers = 2\n[sink]\ntopic = 't'" + SINK, "False schema does not allow 2"),
    ("a relay's key in the source of sinks", "pipeline", "[source]\ntopic = 't'\nactions = []" + SINK, "actions"),
    ("a table of the process in a pipeline's file", "pipeline", RELAY + "[log]\nlevel = 'info'", "log"),
    ("a password", "pipeline", RELAY + "[kafka.sasl]\npassword = 'x'", "password"),
    ("an unknown log format", "pressline", "[log]\nformat = 'xml'", "xml"),
    ("a misspelt key of the process", "pressline", "[http]\nlisten_on = ':1'", "listen_on"),
    ("a list for an address", "pressline", "[http]\nlisten = [1]", "listen"),
    ("a test with a misspelt key", "test", "[[test]]\nname = 'x'\nexpected.dead = 'not_json'", "expected"),
    ("an input of a number", "test", "[[test]]\ninput = 7\nexpect.filtered = true", "input"),
]


def validator(of):
    schema = json.loads(SCHEMAS[of].read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def complaints(of, document):
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in validator(of).iter_errors(document)]


def committed(*patterns):
    """Files that stand in the repository, by pattern."""
    listed = subprocess.run(["git", "ls-files", "--", *patterns], cwd=ROOT, text=True, check=True, stdout=subprocess.PIPE).stdout
    return [ROOT / name for name in listed.split()]


class Schemas(unittest.TestCase):
    maxDiff = None

    def test_they_are_what_the_program_prints(self):
        for of, file in SCHEMAS.items():
            printed = subprocess.run([PROGRAM, "schema", of], text=True, check=True, stdout=subprocess.PIPE).stdout
            self.assertEqual(printed, file.read_text(), f"{file}: run make schemas")

    def test_what_is_shipped_is_valid_and_names_its_schema(self):
        files = committed("pipelines/*.toml", "docs/pipelines/*.toml", "docker/**/*.toml", "packaging/**/*.toml", "pressline.toml")
        self.assertGreater(len(files), 10)
        for file in files:
            of = "test" if file.name.endswith(".test.toml") else "pressline" if file.name == "pressline.toml" else "pipeline"
            text = file.read_text()
            self.assertEqual(complaints(of, tomllib.loads(text)), [], file)
            named = re.match(r"#:schema (\S+)\n", text)
            self.assertTrue(named, f"{file}: the first line is to be #:schema PATH")
            if not named[1].startswith("file:///usr/share/pressline/"):
                self.assertEqual((file.parent / named[1]).resolve(), SCHEMAS[of], file)
            else:
                self.assertTrue(named[1].endswith(f"/{SCHEMAS[of].name}"), file)

    def test_examples_of_the_documentation_are_valid(self):
        seen = 0
        for page in committed("README.md", "docs/*.md"):
            for kind, block in re.findall(r"```toml( test)?\n(.*?)```", page.read_text(), re.S):
                # Parts of files, which may be those of pipelines and of pressline.toml.
                self.assertEqual(complaints("test" if kind else "pressline", tomllib.loads(block)), [], f"{page}:\n{block}")
                seen += 1
        self.assertGreaterEqual(seen, 15)

    def test_mistakes_are_found(self):
        for what, of, text, told in MISTAKES:
            found = complaints(of, tomllib.loads(text))
            self.assertTrue(any(told in complaint for complaint in found), f"{what}: {found}")

    def test_what_mistakes_are_made_of_is_valid(self):
        self.assertEqual(complaints("pipeline", tomllib.loads(RELAY + SINK)), [])
        self.assertEqual(complaints("pipeline", tomllib.loads("[sink]\ntopic = 't'" + SINK)), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
