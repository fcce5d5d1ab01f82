"""The test column store: the real ClickHouse engine in a Python process that speaks ClickHouse's HTTP interface."""

from . import cache
from .ports import LOOPBACK
from .process import Process

USER = "loader"
PASSWORD = "columns-of-presses"
DATABASE = "pressline"


class ClickHouse(Process):
    """The engine and its front; data lies in `folder/clickhouse`."""

    PORTS = ["clickhouse_port", "clickhouse_tls_port"]

    def __init__(self, folder, ports):
        super().__init__(folder, "clickhouse")
        self._data = folder / "clickhouse"
        self._tls = folder / "tls"
        self._port = ports["clickhouse_port"]
        self._tls_port = ports["clickhouse_tls_port"]

    def create(self):
        """Makes an empty folder; the engine fills it."""
        self._data.mkdir(parents=True)

    def launch(self):
        """Starts the engine on the data it has."""
        front = cache.HERE / "clickhouse_front.py"
        options = ["--data", self._data, "--database", DATABASE, "--user", USER, "--password", PASSWORD]
        listen = ["--port", self._port, "--tls-port", self._tls_port, "--certificate", self._tls / "server.pem"]
        self.start([cache.clickhouse_python(), front, *options, *listen])

    def await_ready(self):
        """Returns when the front answers."""
        self.wait_until(lambda: self.has_logged("ready for connections"))

    def environment(self):
        """What tests need to know."""
        return {
            "PRESSLINE_TEST_CLICKHOUSE": f"http://{LOOPBACK}:{self._port}",
            "PRESSLINE_TEST_CLICKHOUSE_TLS": f"https://{LOOPBACK}:{self._tls_port}",
            "PRESSLINE_TEST_CLICKHOUSE_USER": USER,
            "PRESSLINE_TEST_CLICKHOUSE_PASSWORD": PASSWORD,
            "PRESSLINE_TEST_CLICKHOUSE_DATABASE": DATABASE,
            "PRESSLINE_TEST_CLICKHOUSE_PYTHON": str(cache.clickhouse_python()),
        }
