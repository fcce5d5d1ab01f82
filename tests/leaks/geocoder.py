"""A server with Nominatim's `/search` that knows a point for every place."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Geocoder:
    """A running one, on a free port of the loopback address."""

    def __init__(self):
        self._server = _Server(("127.0.0.1", 0), _Search)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="geocoder", daemon=True).start()

    def close(self):
        """Stops it."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_):
        """Nothing: pressline is killed while it asks."""


class _Search(BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802 - the base class wants this name
        countries = parse_qs(urlsplit(self.path).query).get("countrycodes", [])
        # Something else may ask too: a leak on purpose.
        answer = [{"lat": "12.25", "lon": "-34.5", "address": {"country_code": code}} for code in countries]
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing: what was asked may be a leak on purpose."""
