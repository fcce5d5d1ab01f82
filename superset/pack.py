#!/usr/bin/env python3
"""Packs the dashboard for Superset's import, with the address of your database in it.

    superset/pack.py SQLALCHEMY_URI FILE.zip [--name NAME]

The same files serve PostgreSQL and ClickHouse, since the views have the same names and columns in both. NAME stands in the titles and
keeps several imports in one Superset apart.
"""

import argparse
import re
import uuid
import zipfile
from pathlib import Path

EXPORT = Path(__file__).resolve().parent / "export"
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def pack(uri, file, name=None):
    """Writes the zip file."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(EXPORT.rglob("*.yaml")):
            archive.writestr(f"pressline/{path.relative_to(EXPORT)}", _filled(path.read_text(), uri, name))


def _filled(text, uri, name):
    text = text.replace("SQLALCHEMY_URI", "'" + uri.replace("'", "''") + "'")
    if not name:
        return text
    text = text.replace("database_name: pressline", f"database_name: pressline {name}")
    text = text.replace("slug: pressline-questions", f"slug: pressline-questions-{name.lower()}")
    text = text.replace("'pressline: questions'", f"'pressline: questions ({name})'")
    # Superset takes what has a UUID that it knows for the same thing.
    return _UUID.sub(lambda found: str(uuid.uuid5(uuid.UUID(found[0]), name)), text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("uri")
    parser.add_argument("file", type=Path)
    parser.add_argument("--name", help="such as ClickHouse")
    given = parser.parse_args()
    pack(given.uri, given.file, given.name)
