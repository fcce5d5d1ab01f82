"""The manifests of docker/kubernetes: valid by Kubernetes' own schemas, and about the same things as each other and as the configuration.

No cluster is asked. Runs in the tests' own Python, which has PyYAML and the schemas (kubernetes-validate).
"""

import json
import re
import shutil
import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path
from urllib.parse import urlsplit

from tests.harness import interpreter
from tests.harness.paths import ROOT

FOLDER = ROOT / "docker/kubernetes"
PROGRAM = ROOT / "target/release/pressline"
SERVICE_MONITOR = ROOT / "tests/packaging/servicemonitor.schema.json"
# An old one that many still run, and the newest that the schemas have.
VERSIONS = ("1.30.0", "1.37.0")


def text_of(value):
    return json.dumps(value, sort_keys=True)


class Kubernetes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        import yaml

        cls.kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
        cls.manifests = {name: yaml.safe_load((FOLDER / name).read_text()) for name in cls.kustomization["resources"]}
        cls.by_kind = {manifest["kind"]: manifest for manifest in cls.manifests.values()}
        cls.config = tomllib.loads((FOLDER / "config/pressline.toml").read_text())
        cls.pipeline = tomllib.loads((FOLDER / "config/pipelines/button_presses.toml").read_text())

    def pods(self):
        return [self.by_kind[kind]["spec"]["template"] for kind in ("StatefulSet", "Job")]

    def test_they_are_valid(self):
        import jsonschema
        import kubernetes_validate

        for name, manifest in self.manifests.items():
            with self.subTest(name):
                if manifest["kind"] == "ServiceMonitor":
                    jsonschema.validate(manifest, json.loads(SERVICE_MONITOR.read_text()))
                    continue
                for version in VERSIONS:
                    kubernetes_validate.validate(manifest, version, strict=True)
        # A schema that takes anything would show nothing.
        wrong = json.loads(text_of(self.by_kind["StatefulSet"]).replace("readOnlyRootFilesystem", "readOnlyRootFileSystem"))
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, VERSIONS[1], strict=True)

    def test_all_files_are_taken_in(self):
        self.assertEqual(set(self.manifests), {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"})
        given = {file for one in self.kustomization["configMapGenerator"] for file in one["files"]}
        self.assertEqual(given, {str(path.relative_to(FOLDER)) for path in (FOLDER / "config").rglob("*.toml")})

    def test_selectors_find_the_daemon_and_no_job(self):
        daemon, job = (pod["metadata"]["labels"] for pod in self.pods())

        def finds(selector, labels):
            return selector.items() <= labels.items()

        service = self.by_kind["Service"]
        for selector in (
            self.by_kind["StatefulSet"]["spec"]["selector"]["matchLabels"],
            service["spec"]["selector"],
            self.by_kind["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        ):
            self.assertTrue(finds(selector, daemon))
            self.assertFalse(finds(selector, job))
        monitor = self.by_kind["ServiceMonitor"]["spec"]
        self.assertTrue(finds(monitor["selector"]["matchLabels"], service["metadata"]["labels"]))
        self.assertIn(monitor["endpoints"][0]["port"], [port["name"] for port in service["spec"]["ports"]])
        policy = self.by_kind["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
        self.assertTrue(finds(policy, daemon) and finds(policy, job))
        self.assertEqual(self.by_kind["StatefulSet"]["spec"]["serviceName"], service["metadata"]["name"])

    def test_names_are_stable_and_pods_have_no_rights(self):
        container = self.by_kind["StatefulSet"]["spec"]["template"]["spec"]["containers"][0]
        instance = {one["name"]: one for one in container["env"]}["PRESSLINE__INSTANCE"]
        self.assertEqual(instance["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name")
        for pod in self.pods():
            spec = pod["spec"]
            self.assertTrue(spec["securityContext"]["runAsNonRoot"] and not spec["automountServiceAccountToken"])
            # The user of the image.
            self.assertIn(f"USER {spec['securityContext']['runAsUser']}:", (ROOT / "docker/Dockerfile").read_text())
            for container in spec["containers"]:
                context = container["securityContext"]
                self.assertTrue(context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"])
                self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
                self.assertNotIn("password", text_of(container).lower())

    def test_ports_and_addresses_are_those_of_the_configuration(self):
        container = self.by_kind["StatefulSet"]["spec"]["template"]["spec"]["containers"][0]
        port = int(self.config["http"]["listen"].rpartition(":")[2])
        self.assertEqual([port], [one["containerPort"] for one in container["ports"]])
        policy = self.by_kind["NetworkPolicy"]["spec"]
        self.assertEqual([one["port"] for one in policy["ingress"][0]["ports"]], [port])
        sinks = self.pipeline["sink"]
        needed = {
            self.config["kafka"]["bootstrap_servers"],
            urlsplit(self.config["registry"]["url"]).netloc,
            f"{sinks['postgres']['host']}:{sinks['postgres'].get('port', 5432)}",
            urlsplit(sinks["clickhouse"]["url"]).netloc,
        }
        open_to = {
            (rule["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], one["port"])
            for rule in policy["egress"]
            for one in rule["ports"]
        }
        for address in needed:
            host, _, number = address.partition(":")
            self.assertIn((host.split(".")[1], int(number)), open_to, address)
        self.assertEqual({place for place in open_to if place[0] != "kube-system"}, {(a.split(".")[1], int(a.split(":")[1])) for a in needed})

    def test_the_configuration_is_mounted_where_it_is_read_and_sound(self):
        with tempfile.TemporaryDirectory(prefix="pressline-kubernetes-") as folder:
            etc = Path(folder) / "etc"
            mounted = self.by_kind["StatefulSet"]["spec"]["template"]["spec"]["volumes"][0]["projected"]["sources"]
            generated = {one["name"]: one["files"] for one in self.kustomization["configMapGenerator"]}
            for source in mounted:
                files = {Path(file).name: FOLDER / file for file in generated[source["configMap"]["name"]]}
                items = source["configMap"].get("items") or [{"key": name, "path": name} for name in files]
                for item in items:
                    (etc / item["path"]).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(files[item["key"]], etc / item["path"])
            # What the image and the secret hold.
            secrets = set(re.findall(r"/run/secrets/pressline/(\w+)", "".join(path.read_text() for path in etc.rglob("*.toml"))))
            self.assertEqual(secrets, {"kafka", "registry", "postgres", "clickhouse"})
            for path in etc.rglob("*.toml"):
                text = path.read_text().replace("/usr/share/pressline/demo.mmdb", str(ROOT / "data/demo.mmdb"))
                text = text.replace("/usr/share/pressline/button_presses.avsc", str(ROOT / "schemas/button_presses.avsc"))
                path.write_text(text.replace("/run/secrets/pressline", str(Path(folder) / "secrets")))
            (Path(folder) / "secrets").mkdir()
            for name in secrets:
                (Path(folder) / "secrets" / name).write_text("secret")
                (Path(folder) / "secrets" / name).chmod(0o440)
            done = subprocess.run([PROGRAM, "check"], cwd=etc, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertIn("0 errors, 0 warnings", done.stdout)


if __name__ == "__main__":
    interpreter.require_packages()
    unittest.main(verbosity=2)
