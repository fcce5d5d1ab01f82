"""The harnesses are one package: no module edits the path, hides another package, or imports what is not there."""

import ast
import importlib.metadata
import sys
import unittest
from pathlib import Path

from tests.harness.paths import ROOT

FILES = [file for file in sorted((ROOT / "tests").rglob("*.py")) if file != Path(__file__)]


def imported(tree):
    """(module, name) of each `from tests... import name`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module.split(".")[0] == "tests":
            yield from ((node.module, alias.name) for alias in node.names)


def defined(tree):
    """The names that a module has at its top."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name for alias in node.names)
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.With)):
            yield from (part.id for part in ast.walk(node) if isinstance(part, ast.Name))


class Imports(unittest.TestCase):
    def test_the_path_is_left_alone(self):
        for file in FILES:
            self.assertNotIn("sys.path", file.read_text(), file)

    def test_what_is_imported_is_there(self):
        for file in FILES:
            for module, name in imported(ast.parse(file.read_text())):
                path = ROOT.joinpath(*module.split("."))
                if (path / f"{name}.py").is_file():
                    continue
                self.assertTrue(path.with_suffix(".py").is_file(), f"{file}: {module}")
                self.assertIn(name, set(defined(ast.parse(path.with_suffix(".py").read_text()))), f"{file}: {module}")

    def test_no_program_of_the_stack_hides_a_package(self):
        """A program has its own folder first on the path."""
        own = {file.stem for file in (ROOT / "tests" / "stack").glob("*.py")}
        self.assertEqual(set(), own & (sys.stdlib_module_names | importlib.metadata.packages_distributions().keys()))


if __name__ == "__main__":
    unittest.main()
