"""docs/runbooks.md: a section for each alert."""

import re

from tests.harness.paths import ROOT

PARTS = ("**What it means.**", "**What to look at.**", "**What to do.**")


def sections():
    """Anchor, as GitHub makes it of a heading → text."""
    page = (ROOT / "docs" / "runbooks.md").read_text()
    found = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    return {heading.lower().replace(" ", "-"): text for heading, text in zip(found[1::2], found[2::2])}


def faults(text, panels):
    """What a section lacks, and panels that it names but no dashboard has: quoted text with a capital letter is one."""
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    # A title may go over the end of a line.
    titles = (" ".join(title.split()) for title in re.findall(r'"([A-Z][^"]*)"', prose))
    yield from (f'there is no panel "{title}"' for title in titles if title not in panels)
    yield from (f"has no {part}" for part in PARTS if part not in text)
    if "\n    " not in text and "```" not in text:
        yield "has no command"
