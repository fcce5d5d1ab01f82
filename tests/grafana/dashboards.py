"""The dashboards as files: what Grafana would refuse or leave empty, and the queries as its data sources send them.

The macros are those of the plugins: grafana/clickhouse-datasource (pkg/macros) and Grafana's PostgreSQL data source
(pkg/tsdb/grafana-postgresql-datasource/macros.go)."""

import json
import re
from datetime import datetime, timezone

from tests.harness.paths import ROOT

FOLDER = ROOT / "grafana"
COLUMNS = 24  # of Grafana's grid
# Variables that Grafana or a plugin fills in.
BUILT_IN = {"__rate_interval", "__interval", "__timeFilter", "__timeInterval", "__timeGroupAlias"}
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::(\w+))?\}|(\w+))")


class Dashboard:
    """One file."""

    def __init__(self, path):
        self.name = path.stem
        self.content = json.loads(path.read_text())
        self.variables = {one["name"]: one for one in self.content["templating"]["list"]}
        self.panels = [panel for panel in self.content["panels"] if panel["type"] != "row"]

    def queries(self):
        """(panel, target, text) of every query."""
        for panel in self.panels:
            for target in panel["targets"]:
                yield panel, target, target.get("expr") or target["rawSql"]

    def used(self, text):
        """Names of our variables in a text."""
        return [name for name in _names(text) if name in self.variables]

    def faults(self, sources):
        """What is wrong with the structure. `sources`: type by uid, of the provisioned data sources."""
        yield from self._faults_of_variables()
        yield from self._faults_of_grid()
        ids = [panel["id"] for panel in self.content["panels"]]
        yield from (f"panel id {one} is there twice" for one in {one for one in ids if ids.count(one) > 1})
        titles = [panel["title"] for panel in self.panels]
        yield from (f"panel title {one} is there twice" for one in {one for one in titles if titles.count(one) > 1})
        for panel in self.panels:
            where = f"panel {panel['id']} ({panel['title']})"
            if not panel["title"] or not panel["description"]:
                yield f"{where} has no title or no description"
            refs = [target["refId"] for target in panel["targets"]]
            if not refs or len(refs) != len(set(refs)):
                yield f"{where} has no query, or a refId twice: {refs}"
            for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
                if sources.get(source["uid"]) != source["type"]:
                    yield f"{where}: {source} is not among the provisioned data sources {sources}"
        for variable in self.variables.values():
            source = variable.get("datasource")
            if variable["type"] == "query" and sources.get(source["uid"]) != source["type"]:
                yield f"variable {variable['name']}: {source} is not among the provisioned data sources {sources}"

    def _faults_of_variables(self):
        queries = [text for _, _, text in self.queries()]
        known = set(self.variables) | BUILT_IN
        for text in (*queries, *(_query_of(one) for one in self.variables.values())):
            yield from (f"${name} is not defined: {text}" for name in set(_names(text)) - known)
        used = {name for text in queries for name in _names(text)}
        yield from (f"variable {name} is used by no query" for name in set(self.variables) - used)

    def _faults_of_grid(self):
        taken = {}
        for panel in self.content["panels"]:
            at = panel["gridPos"]
            if at["x"] < 0 or at["w"] < 1 or at["h"] < 1 or at["x"] + at["w"] > COLUMNS:
                yield f"panel {panel['id']} leaves the grid: {at}"
            for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
                if taken.setdefault(cell, panel["id"]) != panel["id"]:
                    yield f"panels {taken[cell]} and {panel['id']} overlap at {cell}"
                    break


def columns_of_options(panel):
    """Columns that a panel needs of its query."""
    options = panel["options"]
    yield from (options[key] for key in ("xField",) if key in options)
    for layer in options.get("layers", ()):
        yield from (layer["location"][key] for key in ("latitude", "longitude"))
        yield layer["config"]["style"]["size"]["field"]
    for override in panel["fieldConfig"]["overrides"]:
        yield override["matcher"]["options"]


def load():
    """All dashboards."""
    return [Dashboard(path) for path in sorted((FOLDER / "dashboards").glob("*.json"))]


def provisioned():
    """uid → type of the data sources, of each file that provisions them."""
    for path in (FOLDER / "provisioning/datasources/pressline.yaml", FOLDER.parent / "docker/grafana/datasources/pressline.yaml"):
        entries = re.split(r"^\s*- name:", path.read_text(), flags=re.MULTILINE)[1:]
        yield {_value(entry, "uid"): _value(entry, "type") for entry in entries}


def _value(entry, key):
    return re.search(rf"^\s*{key}:\s*(\S+)\s*$", entry, re.MULTILINE)[1]


def _query_of(variable):
    query = variable["query"]
    return query["query"] if isinstance(query, dict) else query


def _names(text):
    # A dollar sign before a digit or a quote is an anchor of a regular expression.
    return [braced or plain for braced, _, plain in _VARIABLE.findall(text) if not (braced or plain)[0].isdigit()]


def expand(text, values):
    """A query with its variables filled in. `values`: name → text, or list of texts."""

    def value(match):
        name, form = match[1] or match[3], match[2]
        if name not in values:
            return match[0]
        given = values[name]
        if form == "singlequote":
            return ",".join("'" + one.replace("'", "\\'") + "'" for one in given)
        return given if isinstance(given, str) else "|".join(given)

    return _VARIABLE.sub(value, text)


def clickhouse_sql(text, begin, end, interval):
    """The macros of ClickHouse's plugin; `begin`, `end`: Unix time, `interval`: seconds."""
    text = re.sub(
        r"\$__timeFilter\(([^)]*)\)", rf"\1 >= toDateTime({int(begin)}) AND \1 <= toDateTime({int(end)})", text
    )
    return re.sub(
        r"\$__timeInterval\(([^)]*)\)", rf"toStartOfInterval(toDateTime(\1), INTERVAL {interval} second)", text
    )


def postgres_sql(text, begin, end, interval):
    """The macros of Grafana's PostgreSQL data source."""

    def moment(seconds):
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")

    text = text.replace("$__interval", f"{interval}s")
    text = re.sub(r"\$__timeFilter\(([^)]*)\)", rf"\1 BETWEEN '{moment(begin)}' AND '{moment(end)}'", text)
    group = re.compile(r"\$__timeGroupAlias\(([^,)]*),\s*'?(\d+)s'?\)")
    return group.sub(r'floor(extract(epoch from \1)/\2)*\2 AS "time"', text)
