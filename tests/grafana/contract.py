"""docs/metrics.md against what a running pressline shows."""

import re
import urllib.request

from tests.grafana.prometheus import promtool
from tests.harness.paths import ROOT
from tests.harness.waiting import Failure

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_PARTS = ("_bucket", "_sum", "_count")


def scrape(instance):
    """The text of /metrics."""
    with urllib.request.urlopen("http://{}:{}/metrics".format(*instance.address()), timeout=10) as answer:
        return answer.read().decode()


def samples(text):
    """(name, labels) of each sample."""
    found = [_SAMPLE.match(line) for line in text.splitlines() if line and not line.startswith("#")]
    return [(match[1], dict(_LABEL.findall(match[2] or ""))) for match in found]


def documented(head="Metric"):
    """Name → (type, labels) of each metric of the tables with this heading: by default those of a running pressline."""
    rows = _rows((ROOT / "docs" / "metrics.md").read_text(), head)
    return {_code(row[0]): (row[1], set(re.findall(r"`(\w+)`", row[2]))) for row in rows}


def queried():
    """The same of all that a query may ask for."""
    return documented() | documented("Metric of a file")


def metric_of(name, known):
    """The metric that a sample or a query's name belongs to: a histogram's parts have names of their own."""
    for part in _PARTS:
        if name.endswith(part) and known.get(name.removesuffix(part), ("",))[0] == "histogram":
            return name.removesuffix(part)
    return name


def faults(text):
    """Where the page and the table differ, and what promtool says of the page."""
    known = documented()
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    shown = {}
    for name, labels in samples(text):
        shown.setdefault(metric_of(name, known), []).append(labels)
    for name, found in shown.items():
        if name not in known:
            yield f"{name} is shown, but is not in docs/metrics.md"
            continue
        kind, wanted = known[name]
        if types.get(name) != kind:
            yield f"{name} is shown as {types.get(name)}, docs/metrics.md says {kind}"
        for labels in found:
            if set(labels) - {"le"} != wanted:
                yield f"{name} is shown with labels {sorted(labels)}, docs/metrics.md says {sorted(wanted)}"
                break
    yield from (f"{name} of docs/metrics.md is not shown" for name in set(known) - set(shown))
    yield from _unknown_values(shown)
    try:
        promtool("check", "metrics", text=text)
    except Failure as failure:
        yield str(failure)


def _unknown_values(shown):
    """Labels whose values come from a list must keep to it: no series without bound."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    listed = {_code(row[0]): set(re.findall(r"`(\w+)`", row[1])) for row in _rows(page, "Label")}
    operations = (ROOT / "docs" / "operations.md").read_text()
    listed["reason"] = {_code(row[0]) for head in ("Reason", "Code") for row in _rows(operations, head)}
    for label in ("trigger", "cause", "outcome", "sink", "class", "reason"):
        found = {labels[label] for series in shown.values() for labels in series if label in labels}
        yield from (f'{label}="{value}" is not documented' for value in found - listed[label])


def partitions(text, metric):
    """Values of the label `partition` of a metric."""
    return {labels["partition"] for name, labels in samples(text) if name == metric}


def _rows(page, head):
    """Cells of the rows of all tables whose first heading is `head`."""
    rows, inside = [], False
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else [""]
        if cells[0] == head:
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not cells[0].startswith("---"):
            rows.append(cells)
    return rows


def _code(cell):
    return cell.strip("`")
