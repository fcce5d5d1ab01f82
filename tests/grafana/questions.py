"""The questions dashboards on the views of sql/questions: every query returns data, is narrowed by its variable, and shows the same
from both databases. tests/questions/run.py calls this on data that has an answer to every question."""

from datetime import timedelta

from tests.grafana import dashboards

KINDS = ["real", "generated"]


def check(report, databases, begin):
    """`begin`: when the data begins; the time range shown ends inside of it."""
    answers = {}
    for database in databases:
        macros = dashboards.clickhouse_sql if database.name == "clickhouse" else dashboards.postgres_sql
        board = next(one for one in dashboards.load() if one.name == f"questions-{database.name}")
        times = (begin.timestamp(), (begin + timedelta(days=30)).timestamp(), 3600)

        def rows(text, kinds, database=database, macros=macros, times=times):
            return database.select(macros(dashboards.expand(text, {"data": kinds}), *times))

        for panel, _, text in board.queries():
            where = f"{board.name}: {panel['title']}"
            found, columns = rows(text, KINDS)
            report.tell(bool(found) and board.used(text) == ["data"], f"{where}: {len(found)} rows")
            report.tell(not _says_something(rows(text, ["no such kind"])[0]), f"{where} is narrowed by $data")
            shown = {row["data"] for row in found if "data" in columns} | {column[:-5] for column in columns if column.endswith("_data")}
            shown |= {row[name] for row in found for name in ("kind", "metric") if name in columns}
            # Generated data has no cohorts to compare.
            report.tell(shown >= set(KINDS) or panel["title"] == "Cohorts compared", f"{where} labels {sorted(shown)}")
            for column in dashboards.columns_of_options(panel):
                report.tell(column in columns, f"{where} shows column {column}")
            answers.setdefault(panel["title"], []).append({tuple(map(_plain, row.values())) for row in found})
    for title, (one, other) in answers.items():
        report.tell(one == other, f"{title}: the same from both databases{sorted(one ^ other, key=str)[:4] or ''}")


def _says_something(rows):
    return any(isinstance(cell, (int, float)) and cell for row in rows for cell in row.values())


def _plain(cell):
    if isinstance(cell, float):
        return float(f"{cell:.6g}")
    return cell.removesuffix(".000000") if isinstance(cell, str) else cell
