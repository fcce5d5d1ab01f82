"""A headless Chromium, driven over W3C WebDriver with nothing but Python's own library."""

import base64
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
# Nothing of the browser's own may go to the network.
_FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking "
    "--disable-component-update --disable-sync --no-first-run --no-default-browser-check --disable-extensions "
    "--window-size=1280,900"
).split()


class BrowserError(Exception):
    """What the driver said."""


def missing():
    """What is not there that a test needs, or None."""
    return next((name for name in ("chromium", "chromedriver") if not shutil.which(name)), None)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Browser:
    """One tab. To be used with `with`."""

    def __enter__(self):
        self.port = free_port()
        self.folder = tempfile.TemporaryDirectory()
        command = [shutil.which("chromedriver"), f"--port={self.port}"]
        self.driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.session = None
        deadline = time.monotonic() + 60
        while self.session is None:
            try:
                self.session = self._begin()
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > deadline or self.driver.poll() is not None:
                    self.driver.kill()
                    raise
                time.sleep(0.1)
        return self

    def __exit__(self, *_):
        try:
            self._call("DELETE", "")
        except (BrowserError, OSError):
            pass
        self.driver.terminate()
        try:
            self.driver.wait(10)
        except subprocess.TimeoutExpired:
            self.driver.kill()
        self.folder.cleanup()

    def _begin(self):
        flags = [*_FLAGS, f"--user-data-dir={self.folder.name}"]
        options = {"binary": shutil.which("chromium"), "args": flags}
        always = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        return self._request("POST", "/session", {"capabilities": {"alwaysMatch": always}})["sessionId"]

    def _request(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"})
        request.method = method
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise BrowserError(json.load(error)["value"]["message"].splitlines()[0]) from None

    def _call(self, method, path, body=None):
        return self._request(method, f"/session/{self.session}{path}", body)

    def open(self, url):
        self._call("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """What a script gives back that `return`s something."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, selector):
        """What stands in an element, shown or not."""
        found = self.run("return document.querySelector(arguments[0])?.textContent", selector)
        return " ".join((found or "").split())

    def count(self, selector):
        return self.run("return document.querySelectorAll(arguments[0]).length", selector)

    def _element(self, selector):
        found = self._call("POST", "/element", {"using": "css selector", "value": selector})
        return found[_ELEMENT]

    def click(self, selector):
        self._call("POST", f"/element/{self._element(selector)}/click", {})

    def type(self, selector, keys):
        """Keys go to an element, which has the focus then."""
        self._call("POST", f"/element/{self._element(selector)}/value", {"text": keys})

    def press_key(self, key):
        """A key goes to whatever has the focus."""
        actions = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        self._call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def accessibility_tree(self):
        """What a screen reader is given: role, name and whether it takes the focus, of each element that is not ignored."""
        nodes = self.devtools("Accessibility.getFullAXTree")["nodes"]
        of = lambda node, what: (node.get(what) or {}).get("value", "")  # noqa: E731
        takes_focus = lambda node: any(p["name"] == "focusable" and p["value"]["value"] for p in node.get("properties", ()))  # noqa: E731
        return [(of(node, "role"), str(of(node, "name")).strip(), takes_focus(node)) for node in nodes if not node["ignored"]]

    def cookies(self):
        return {cookie["name"]: cookie for cookie in self._call("GET", "/cookie")}

    def source(self):
        return self._call("GET", "/source")

    def complaints(self):
        """What the browser complained of since it was asked last: refused scripts, files that are missing."""
        entries = self._call("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def devtools(self, command, **parameters):
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def look_like(self, width=1280, height=900, dark=False, still=False, scripts=True):
        """Another screen and other wishes of its user."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
        ]
        self.devtools("Emulation.setEmulatedMedia", features=features)
        self.devtools("Emulation.setScriptExecutionDisabled", value=not scripts)

    def screenshot(self, file, of=None):
        """Of what is on the screen, or of one element."""
        if of is None:
            shot = self._call("GET", "/screenshot")
        else:
            names = ("x", "y", "width", "height")
            found = self.run("const { x, y, width, height } = document.querySelector(arguments[0]).getBoundingClientRect(); return [x, y, width, height]", of)
            clip = {name: round(number) for name, number in zip(names, found)} | {"scale": 1}
            shot = self.devtools("Page.captureScreenshot", format="png", clip=clip)["data"]
        file.write_bytes(base64.b64decode(shot))
