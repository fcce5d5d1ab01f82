"""A reverse proxy before the registry.

    auth_proxy.py PORT UPSTREAM_PORT CERTIFICATE USER:PASSWORD    TLS, and basic auth is demanded
    auth_proxy.py PORT UPSTREAM_PORT PREFIX                       plain HTTP; the prefix is put before each path
"""

import base64
import hmac
import http.client
import socketserver
import ssl
import sys
from http.server import BaseHTTPRequestHandler

from services.ports import LOOPBACK

# Headers that belong to one connection and are not passed on (RFC 9110, 7.6.1), and those the server sets itself.
_OWN = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "host",
    "authorization",
    "server",
    "date",
}


class Handler(BaseHTTPRequestHandler):
    """Answers 401 without the right credentials, else what the upstream answers."""

    protocol_version = "HTTP/1.1"
    timeout = 30

    def _serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        given = self.headers.get("Authorization") or ""
        expected = self.server.expected
        if expected is not None and not hmac.compare_digest(given.encode(), expected):
            self._reply(
                401, [("WWW-Authenticate", 'Basic realm="registry"')], b'{"error_code":401,"message":"Unauthorized"}'
            )
            return
        upstream = http.client.HTTPConnection(LOOPBACK, self.server.upstream_port, timeout=30)
        try:
            upstream.request(self.command, self.server.prefix + self.path, body, _passed_on(self.headers.items()))
            answer = upstream.getresponse()
            self._reply(answer.status, answer.getheaders(), answer.read())
        except OSError:
            self._reply(502, [], b'{"error_code":502,"message":"upstream is down"}')
        finally:
            upstream.close()

    do_GET = do_POST = do_PUT = do_DELETE = _serve

    def _reply(self, status, headers, body):
        self.send_response(status)
        for name, value in _passed_on(headers).items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _passed_on(headers):
    return {name: value for name, value in headers if name.lower() not in _OWN}


class Server(socketserver.ThreadingTCPServer):
    """One thread a connection; a TLS handshake happens in it, so that a silent client holds up nobody."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port, upstream_port, prefix="", certificate=None, credentials=None):
        self.upstream_port = upstream_port
        self.prefix = prefix
        self.expected = None
        self._tls = None
        if certificate:
            self.expected = b"Basic " + base64.b64encode(credentials.encode())
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        super().__init__((LOOPBACK, port), Handler)

    def get_request(self):
        """Wraps the connection without a handshake; the first read does it."""
        connection, address = super().get_request()
        if self._tls is None:
            return connection, address
        return self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request, client_address):
        """One line for a client that failed, such as one that does not trust the certificate."""
        print(f"connection failed: {sys.exc_info()[1]}", file=sys.stderr, flush=True)


def main():
    port, upstream_port, *more = sys.argv[1:]
    options = {"prefix": more[0]} if len(more) == 1 else {"certificate": more[0], "credentials": more[1]}
    with Server(int(port), int(upstream_port), **options) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
