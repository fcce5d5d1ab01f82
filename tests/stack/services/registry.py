"""The schema registry (Apicurio, with the Confluent API), and in front of it one that asks for TLS and a password."""

import base64
import ssl
import sys
import urllib.request

from . import cache
from .ports import LOOPBACK
from .process import Process

USER = "registrar"
PASSWORD = "know-the-schema"

_API = "/apis/ccompat/v7"


class Registry(Process):
    """The registry over plain HTTP. It keeps schemas in memory: a restart loses them."""

    PORTS = ["registry_port"]

    def __init__(self, folder, ports):
        super().__init__(folder, "registry")
        self._port = ports["registry_port"]
        self._address = f"http://{LOOPBACK}:{self._port}{_API}"

    def create(self):
        """Nothing to prepare."""

    def launch(self):
        """Starts the registry, empty."""
        jar = next(cache.registry_app().glob("apicurio-registry-app-*-runner.jar"))
        options = [f"-Dquarkus.http.host={LOOPBACK}", f"-Dquarkus.http.port={self._port}"]
        self.start([cache.java(), "-Xmx400m", *options, "-jar", jar])

    def await_ready(self):
        """Returns when the registry answers."""
        self.wait_until(lambda: _answers(urllib.request.Request(f"{self._address}/subjects")))

    def environment(self):
        """What tests need to know."""
        return {"PRESSLINE_TEST_REGISTRY": self._address}


class ProtectedRegistry(Process):
    """The same registry through a proxy with basic auth and TLS."""

    PORTS = ["registry_tls_port"]

    def __init__(self, folder, ports):
        super().__init__(folder, "registry-tls")
        self._port = ports["registry_tls_port"]
        self._upstream = ports["registry_port"]
        self._tls = folder / "tls"
        self._address = f"https://{LOOPBACK}:{self._port}{_API}"

    def create(self):
        """Nothing to prepare."""

    def launch(self):
        """Starts the proxy."""
        proxy = cache.HERE / "auth_proxy.py"
        self.start([sys.executable, proxy, self._port, self._upstream, self._tls / "server.pem", f"{USER}:{PASSWORD}"])

    def await_ready(self):
        """Returns when the registry answers through it."""
        request = urllib.request.Request(f"{self._address}/subjects")
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
        trust = ssl.create_default_context(cafile=self._tls / "ca.pem")
        self.wait_until(lambda: _answers(request, trust))

    def environment(self):
        """What tests need to know."""
        return {
            "PRESSLINE_TEST_REGISTRY_TLS": self._address,
            "PRESSLINE_TEST_REGISTRY_USER": USER,
            "PRESSLINE_TEST_REGISTRY_PASSWORD": PASSWORD,
        }


class RegistryAtRoot(Process):
    """The same registry with its API at the root of the address, as Confluent's own has it."""

    PORTS = ["registry_at_root_port"]

    def __init__(self, folder, ports):
        super().__init__(folder, "registry-at-root")
        self._port = ports["registry_at_root_port"]
        self._upstream = ports["registry_port"]
        self.address = f"http://{LOOPBACK}:{self._port}"

    def create(self):
        """Nothing to prepare."""

    def launch(self):
        """Starts the proxy."""
        self.start([sys.executable, cache.HERE / "auth_proxy.py", self._port, self._upstream, _API])

    def await_ready(self):
        """Returns when the registry answers through it."""
        self.wait_until(lambda: _answers(urllib.request.Request(f"{self.address}/subjects")))

    def environment(self):
        """Tests use the registry itself."""
        return {}


def _answers(request, trust=None):
    # No proxy of the environment: the services are on loopback.
    handlers = [urllib.request.ProxyHandler({})]
    if trust:
        handlers.append(urllib.request.HTTPSHandler(context=trust))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=2):
            return True
    except OSError:  # refused, reset, or (URLError) an error status while it still starts
        return False
