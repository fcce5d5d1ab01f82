"""The faults that both sinks must stand, and the mutants that they must catch."""

from functools import partial

from tests.faults import load_clickhouse, load_kills, load_postgres, load_topic
from tests.faults.faults import (
    COOPERATIVE,
    EAGER,
    Fault,
    black_hole,
    broker_kill,
    broker_stop,
    churn,
    forgotten_offsets,
    kill,
    kill_at,
    terminate,
)
from tests.faults.load_upserts import UpsertWorld
from tests.harness.load_world import ChainWorld, LoadWorld
from tests.harness.world import LOAD

POSTGRES, CLICKHOUSE = ("postgres",), ("clickhouse",)
_IN = {"postgres": partial(LoadWorld, databases=POSTGRES), "clickhouse": partial(LoadWorld, databases=CLICKHOUSE)}
_LINKED = partial(LoadWorld, linked=True)
# A body is sent in pieces of a mebibyte: rows so large and batches so long that an insert has several.
_FAT = partial(LoadWorld, databases=CLICKHOUSE, padding=int(min(32_000 / LOAD, 600_000)), rate=100, batch={"clickhouse": 3000})
# The engine remembers no tokens: nothing but what is in the table tells that an insert was done.
_FORGETFUL = partial(LoadWorld, databases=CLICKHOUSE, window=0)
_POINTS = {
    "pg_after_copy": _IN["postgres"],
    "pg_before_commit": _IN["postgres"],
    "pg_during_commit": _IN["postgres"],
    "pg_after_commit": _IN["postgres"],
    "ch_after_pending": _IN["clickhouse"],
    "ch_mid_body": _FAT,
    "ch_after_insert": _FORGETFUL,
}


def _on(database, name, do, **more):
    """A fault of one database, with that one's sink alone."""
    return Fault(f"{name}-{database}", do, world=partial(_IN[database], linked=True), **more)


FAULTS = [
    Fault("load", load_kills.load_all(200_000), test=1, soak=1, world=partial(ChainWorld, rate=100_000)),
    Fault("kill", kill, test=10, soak=1000, at_once=10, world=LoadWorld),
    *(Fault(f"kill-{point.replace('_', '-')}", kill_at(point), world=world) for point, world in _POINTS.items()),
    Fault("upsert-kill", kill, test=10, soak=1000, at_once=10, world=UpsertWorld),
    Fault("upsert-kill-pg-during-commit", kill_at("pg_during_commit"), world=partial(UpsertWorld, databases=POSTGRES)),
    Fault("upsert-kill-ch-after-insert", kill_at("ch_after_insert"), world=partial(UpsertWorld, databases=CLICKHOUSE)),
    Fault("stop-and-continue", load_kills.stop_and_continue, world=_LINKED),
    *(_on(database, "late-write", load_kills.late_write) for database in _IN),
    Fault("churn-eager", churn, settings=EAGER, world=LoadWorld),
    Fault("churn-cooperative", churn, settings=COOPERATIVE, world=LoadWorld),
    # Batches so long that every rebalance falls into an open one.
    Fault(
        "churn-clickhouse",
        churn,
        test=1,
        settings=COOPERATIVE,
        world=partial(LoadWorld, databases=CLICKHOUSE, batch={"clickhouse": 1500}),
    ),
    Fault("terminate", terminate, world=LoadWorld),
    Fault("first-start", load_kills.first_start, at_once=2, world=partial(LoadWorld, rate=2000)),
    *(
        # As many whatever the load: with few rows none is bad.
        Fault(f"bad-rows-{database}", load_postgres.bad_rows, world=partial(_IN[database], dense=True, rate=rate / LOAD))
        # Where a machine is busy with other tests too, ClickHouse takes a second to find each bad row.
        for database, rate in (("postgres", 200), ("clickhouse", 60))
    ),
    Fault("topic-made-again-running", load_topic.made_again(True), at_once=1, world=LoadWorld),
    Fault("topic-made-again-away", load_topic.made_again(False), at_once=1, world=LoadWorld),
    Fault("retention", load_topic.retention, at_once=1, world=LoadWorld),
    *(
        Fault(
            f"outage-{database}",
            load_kills.outage(database),
            test=1,
            soak=5,
            at_once=1,
            world=partial(ChainWorld, linked=True, rate=2200),
        )
        for database in _IN
    ),
    *(
        _on(database, "rebalanced-while-away", load_kills.rebalanced_while_away(database), at_once=1, settings=EAGER)
        for database in _IN
    ),
    _on("postgres", "terminate-backends", load_postgres.terminate_backends),
    _on("postgres", "lost-commit-answer", load_postgres.lost_commit_answer),
    _on("postgres", "restored", load_postgres.restored),
    _on("postgres", "column-added", load_postgres.column_added),
    _on("postgres", "column-altered", load_postgres.column_altered),
    Fault("column-dropped", load_postgres.column_dropped, at_once=1, world=ChainWorld),
    _on("clickhouse", "lost-answer", load_clickhouse.lost_answer),
    _on("clickhouse", "forgotten-offsets", forgotten_offsets, proxied=True),
    *(
        Fault(f"{name}-clickhouse", do, alone=True, by_itself=True, world=_IN["clickhouse"])
        for name, do in load_clickhouse.ANSWERS.items()
    ),
    Fault("black-hole", black_hole, test=1, proxied=True, world=LoadWorld),
    Fault("down-clickhouse", load_clickhouse.down, alone=True, world=_IN["clickhouse"]),
    Fault("kill-clickhouse", load_clickhouse.kill_server, alone=True, world=LoadWorld),
    Fault("kill-postgres", load_postgres.kill_server, alone=True, world=LoadWorld),
    Fault("kill-in-commit-postgres", load_postgres.kill_in_commit, alone=True, by_itself=True, world=_IN["postgres"]),
    Fault("broker-kill", broker_kill, alone=True, world=LoadWorld),
    Fault("broker-stop", broker_stop(12), test=0, alone=True, world=LoadWorld),
]
BY_NAME = {fault.name: fault for fault in FAULTS}

# Mutant → the fault that must catch it.
MUTANTS = {
    "no_compare_and_set": "late-write-postgres",
    "compare_without_raise": "late-write-postgres",
    "recovery_without_reading": "kill-ch-after-insert",
    "old_epoch_accepted": "churn-clickhouse",
    "positions_before_rows": "kill-pg-after-copy",
    "started_rows_kept": "churn-cooperative",
    "offsets_before_rows": "kill-ch-after-pending",
    "first_change_wins": "upsert-kill",
    "deletes_ignored": "upsert-kill",
    "floor_ignored": "forgotten-offsets-clickhouse",
}
