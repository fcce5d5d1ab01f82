"""The test broker: Apache Kafka in KRaft mode with plain, TLS and SASL listeners and tiered storage."""

import subprocess
from string import Template

from . import cache
from .ports import LOOPBACK
from .process import Failed, Process

USER = "presser"
PASSWORD = "press-the-button"
LEAST_USER = "least"  # may do nothing but what a test grants

# `proxied` is where a test's proxy connects to, `proxy` is where it listens.
_LISTENERS = ["plain", "tls", "sasl", "sasl_tls", "proxied", "proxy", "controller"]
_TEMPLATE = cache.HERE / "kafka" / "server.properties"


class Kafka(Process):
    """The broker process; data lies in `folder/kafka`, certificates in `folder/tls`."""

    PORTS = [f"{listener}_port" for listener in _LISTENERS]

    def __init__(self, folder, ports):
        super().__init__(folder, "kafka")
        self._data = folder / "kafka"
        self._tls = folder / "tls"
        self._properties = self._data / "server.properties"
        self._ports = ports

    def create(self):
        """Writes the configuration and formats an empty log directory."""
        self._data.mkdir(parents=True)
        users = " ".join(f'user_{user}="{PASSWORD}"' for user in (USER, LEAST_USER))
        plain = f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        words = {**self._ports, "data": self._data, "tls": self._tls, "user": USER, "plain_users": plain, "scram": scram}
        self._properties.write_text(Template(_TEMPLATE.read_text()).substitute(words))
        # Any cluster id will do: 16 bytes in base64url.
        format_log = ["kafka.tools.StorageTool", "format", "-t", "cHJlc3NsaW5lLXRlc3RzLQ", "-c", self._properties]
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            format_log += ["--add-scram", f"{mechanism}=[name={USER},password={PASSWORD}]"]
        done = subprocess.run(
            _java("-Xmx256m", *format_log), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode != 0:
            raise Failed(f"kafka: formatting its log directory failed:\n{done.stdout}")

    def launch(self):
        """Starts the broker on the data it has."""
        logger = "-Dorg.slf4j.simpleLogger"
        times = [f"{logger}.showDateTime=true", f"{logger}.dateTimeFormat=HH:mm:ss.SSS"]
        self.start(_java("-Xms256m", "-Xmx1g", *times, "kafka.Kafka", self._properties))

    def await_ready(self):
        """Returns when the broker serves clients."""
        self.wait_until(lambda: self.has_logged("Kafka Server started"))

    def environment(self):
        """What tests need to know."""
        address = {listener: f"{LOOPBACK}:{self._ports[f'{listener}_port']}" for listener in _LISTENERS}
        return {
            "PRESSLINE_TEST_BOOTSTRAP": address["plain"],
            "PRESSLINE_TEST_BOOTSTRAP_TLS": address["tls"],
            "PRESSLINE_TEST_BOOTSTRAP_SASL": address["sasl"],
            "PRESSLINE_TEST_BOOTSTRAP_SASL_TLS": address["sasl_tls"],
            "PRESSLINE_TEST_BOOTSTRAP_PROXIED": address["proxy"],
            "PRESSLINE_TEST_PROXY_UPSTREAM": address["proxied"],
            "PRESSLINE_TEST_TLS_DIR": str(self._tls),
            "PRESSLINE_TEST_SASL_USER": USER,
            "PRESSLINE_TEST_SASL_PASSWORD": PASSWORD,
            "PRESSLINE_TEST_SASL_LEAST_USER": LEAST_USER,
            "PRESSLINE_TEST_KAFKA_LIBS": str(cache.kafka_jars()),
        }


def _java(*arguments):
    """A Java command with the broker's jars on the class path."""
    return [cache.java(), "-cp", f"{cache.kafka_jars()}/*", *arguments]
