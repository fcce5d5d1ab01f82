"""Sets a fresh Superset up, imports a dashboard and serves it, all in one process, since each start of Superset takes long.

    python serve.py PORT FILE.zip
"""

import sys

from superset.app import create_app
from superset.cli.main import superset
from werkzeug.serving import run_simple

ADMIN = {"--username": "admin", "--firstname": "A", "--lastname": "B", "--email": "a@example.org", "--password": "admin"}


def main(port, file):
    """Serves until it is stopped."""
    app = create_app()
    runner = app.test_cli_runner()

    def run(*words):
        result = runner.invoke(superset, words)
        print(f"superset {' '.join(words[:2])}: exit code {result.exit_code}\n{result.output[-2000:]}", flush=True)
        if result.exit_code or result.exception:
            raise SystemExit(f"superset {' '.join(words)}: {result.exception!r}")

    run("db", "upgrade")
    run("fab", "create-admin", *(word for pair in ADMIN.items() for word in pair))
    run("init")
    run("import-dashboards", "-p", file, "-u", "admin")
    print("ready", flush=True)
    # Not app.run(), which does nothing once a command has run in the same process.
    run_simple("127.0.0.1", int(port), app, threaded=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
