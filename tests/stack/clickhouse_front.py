"""The ClickHouse engine behind the part of ClickHouse's HTTP interface that clients use.

Each request has a session of its own, as on the server: its settings, database and read-only mode end with it. Not
there: sessions kept by session_id, external tables, queued (asynchronous) inserts, answers streamed while they grow.

Who comes as `least` has no grant at all, and as `least/GRANT/GRANT...` those of clickhouse_users.GRANTS, on the table `least`.

Beside the server's paths, for tests only, without credentials:

    POST /front/fault?kind=KIND[&count=N][&ms=N][&code=N&text=T]   order a failure (clickhouse_faults.KINDS), or `clear`
    GET  /front/log                                                the last INSERTs as JSON; DELETE forgets them
    GET  /front/cpu                                                CPU seconds that went into this front, not the engine
"""

import argparse
import base64
import gzip
import hmac
import json
import re
import shutil
import signal
import socket
import socketserver
import ssl
import sys
import tempfile
import threading
import time
import uuid
import zlib
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import clickhouse_blocks
import clickhouse_users
import lz4.frame
from chdb.session import Session
from clickhouse_faults import KINDS, Faults, Record
from clickhouse_statement import insert_with_data

from services.ports import LOOPBACK

# Parameters of the interface itself; every other one in the address is a setting of the query.
_OWN = {
    "buffer_size", "compress", "database", "decompress", "default_format", "password", "query", "query_id",
    "quota_key", "role", "session_id", "stacktrace", "user", "wait_end_of_query",
}  # fmt: skip

# The server's status for each error code (its exceptionCodeToHTTPStatus.cpp); 500 for all others.
_STATUS = {
    **dict.fromkeys((192, 193, 497, 512, 516), 403),
    **dict.fromkeys((6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223, 321), 400),
    **dict.fromkeys((376, 427, 441, 675, 676), 400),
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511), 404),
    **dict.fromkeys((76, 209, 439), 503),
    194: 401,
    159: 408,
    381: 411,
    229: 413,
    48: 501,
}
_NOT_AUTHENTICATED = (
    "Code: 516. DB::Exception: {user}: Authentication failed: password is incorrect, or there is no user with such "
    "name. (AUTHENTICATION_FAILED)"
)
_STALLED = "Code: 209. DB::Exception: Timeout exceeded while reading from socket. (SOCKET_TIMEOUT)"
_IDLE_SECONDS = 30
# For all of an answer: a client on a busy machine may be slow to read a long one.
_ANSWER_SECONDS = 300
_RECEIVE_SECONDS = 30


class Refused(Exception):
    """A request that the server answers with an error; the text begins with `Code: N.`."""


class Gone(Exception):
    """The connection is of no more use: its client broke it, or a test ordered so."""


class Engine:
    """The engine on a folder, in this process."""

    def __init__(self, folder, database):
        # The engine takes what follows the question mark as clickhouse-local's options.
        self._folder = f"{folder / 'engine'}?config-file={clickhouse_users.configuration(folder, database)}"
        self._bodies = folder / "bodies"
        shutil.rmtree(self._bodies, ignore_errors=True)  # a killed process leaves the one it was reading
        self._bodies.mkdir()
        self._open = Session(self._folder)  # keeps the engine alive between requests
        self.thread = threading.local()  # cpu: CPU seconds that the engine took in this thread
        self._open.query(f"CREATE DATABASE IF NOT EXISTS {_identifier(database)}")
        self.version = self._open.query("SELECT version()", "TabSeparatedRaw").data().strip()

    def run(self, text, request):
        """Runs a statement; the answer's bytes and its summary."""
        return self._in_session(request, lambda session: _done(session, text, request))

    def insert(self, insert, request):
        """Runs an INSERT with its data; an empty answer and its summary."""
        # Not the engine's send_insert: it says nothing of too many parts and does not check constraints (26.9).
        with tempfile.NamedTemporaryFile(dir=self._bodies) as body:
            body.write(insert.data)
            body.flush()
            statement = insert.from_file(body.name)
            return self._in_session(request, lambda session: _done(session, statement, request))

    def _in_session(self, request, work):
        begun = time.monotonic()
        try:
            with closing(Session(self._folder)) as session:
                if request.roles is not None:
                    session.query(clickhouse_users.set_roles(request.roles))
                if request.database:
                    session.query(f"USE {_identifier(request.database)}")
                if request.settings:
                    session.query("SET " + ", ".join(f"{_name(k)} = {_text(v)}" for k, v in request.settings.items()))
                before = time.thread_time()
                answer, summary = work(session)
                self.thread.cpu = time.thread_time() - before
        except Exception as error:  # chdb raises its own and RuntimeError
            found = re.search(r"Code: \d+\..*", str(error), re.DOTALL)
            raise Refused(found[0] if found else f"Code: 1001. DB::Exception: {error}") from None
        summary["elapsed_ns"] = int((time.monotonic() - begun) * 1e9)
        return answer, {name: str(value) for name, value in summary.items()}


def _done(session, text, request):
    done = session.query(text, request.default_format or "TabSeparated", params=request.parameters or None)
    rows = {"read_rows": done.storage_rows_read(), "read_bytes": done.storage_bytes_read()}
    return done.bytes(), rows | {"written_rows": done.rows_written(), "written_bytes": done.bytes_written()}


def _identifier(name):
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _text(value):
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _name(setting):
    if not re.fullmatch(r"\w+", setting):
        raise Refused(f"Code: 115. DB::Exception: Unknown setting '{setting}'. (UNKNOWN_SETTING)")
    return setting


class Request:
    """What a request's address and headers say."""

    def __init__(self, method, target, headers):
        parts = urlsplit(target)
        self.path = parts.path
        self.given = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.database = headers.get("X-ClickHouse-Database") or self.given.get("database")
        self.default_format = headers.get("X-ClickHouse-Format") or self.given.get("default_format")
        self.id = headers.get("X-ClickHouse-Query-Id") or self.given.get("query_id") or str(uuid.uuid4())
        self.parameters = {k.removeprefix("param_"): v for k, v in self.given.items() if k.startswith("param_")}
        self.settings = {k: v for k, v in self.given.items() if k not in _OWN and not k.startswith("param_")}
        if method == "GET":
            self.settings["readonly"] = "2"
        self.user, self.password = self._credentials(headers)
        self.roles = clickhouse_users.roles(self.user)

    def flag(self, name):
        """Whether a parameter of the interface is switched on."""
        return self.given.get(name, "0") not in ("0", "")

    def receive_seconds(self):
        """How long the body may stall."""
        try:
            return float(self.settings.get("http_receive_timeout", _RECEIVE_SECONDS)) or None
        except ValueError:
            return _RECEIVE_SECONDS  # the engine will complain about it

    def _credentials(self, headers):
        if "X-ClickHouse-User" in headers or "X-ClickHouse-Key" in headers:
            return headers.get("X-ClickHouse-User", "default"), headers.get("X-ClickHouse-Key", "")
        kind, _, packed = headers.get("Authorization", "").partition(" ")
        if kind.lower() == "basic":
            try:
                user, _, password = base64.b64decode(packed).decode().partition(":")
            except ValueError:
                return "", ""
            return user, password
        return self.given.get("user", "default"), self.given.get("password", "")


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS

    def do_GET(self):
        """Answers one request; all methods are served alike."""
        request = Request(self.command, self.path, self.headers)
        self.server.engine.thread.cpu, before = 0, time.thread_time()
        try:
            self._serve(request)
        except Gone:
            self.close_connection = True
            with suppress(OSError):  # the client may have closed it
                self.connection.shutdown(socket.SHUT_RDWR)
        except Refused as refused:
            self._refuse(request, str(refused))
        finally:
            self.server.add_cpu(time.thread_time() - before - self.server.engine.thread.cpu)

    do_POST = do_PUT = do_DELETE = do_GET

    def _serve(self, request):
        body = self._body(request)
        if request.path.startswith("/front/"):
            return self._front(request)
        if self.server.faults.take("down"):
            return self._reply(503, b"Service Unavailable\n")
        if request.path == "/ping" or (request.path == "/" and self.command == "GET" and not request.given):
            return self._reply(200, b"Ok.\n")
        user = self.server.user if request.roles is not None else request.user
        if not hmac.compare_digest(f"{user}:{request.password}".encode(), self.server.credentials):
            raise Refused(_NOT_AUTHENTICATED.format(user=request.user))
        query = request.given.get("query", "").encode()
        data = self._decoded(request, body)
        insert = insert_with_data(query, request.default_format) if query else None
        if insert:
            insert = insert._replace(data=insert.data + data)
        else:
            query = b"\n".join(part for part in (query, data) if part)
            insert = insert_with_data(query, request.default_format)
        if insert:
            answer, summary = self._insert(request, insert)
        else:
            answer, summary = self.server.engine.run(query.decode(errors="replace"), request)
        self._answer(request, answer, summary)

    def _insert(self, request, insert):
        """Runs an INSERT, with the faults that a test ordered, and records it."""
        faults = self.server.faults
        entry = {
            "time": time.time(),
            "query_id": request.id,
            "statement": insert.head.strip(),
            "format": insert.format,
            "settings": request.settings,
            "token": request.settings.get("insert_deduplication_token"),
            "bytes": len(insert.data),
            "result": "lost",
        }
        try:
            if slow := faults.take("slow"):
                time.sleep(int(slow["ms"]) / 1000)
            if faults.take("lose_request"):
                raise Gone
            if refusal := faults.refusal():
                raise Refused(refusal)
            answer, summary = self.server.engine.insert(insert, request)
            entry |= {"result": "ok", "rows": int(summary["written_rows"])}
        except Refused as refused:
            entry |= {"result": str(refused)}
            raise
        finally:
            self.server.record.add(entry)
        if slow := faults.take("slow_answer"):
            time.sleep(int(slow["ms"]) / 1000)
        if faults.take("lose_response"):
            entry["response"] = "lost"
            raise Gone
        return answer, summary

    def _front(self, request):
        """The paths that only tests use."""
        if request.path == "/front/log":
            if self.command == "DELETE":
                self.server.record.clear()
            return self._reply(200, json.dumps(self.server.record.entries()).encode(), "application/json")
        if request.path == "/front/cpu":
            return self._reply(200, str(self.server.cpu).encode())
        kind = request.given.get("kind")
        if request.path != "/front/fault" or kind not in (*KINDS, "clear"):
            kinds = ", ".join(("clear", *KINDS))
            return self._reply(400, f"know only /front/log, /front/cpu and /front/fault?kind= {kinds}\n".encode())
        needed = {"error": ["code", "text"], "slow": ["ms"], "slow_answer": ["ms"]}.get(kind, [])
        if missing := [name for name in needed if name not in request.given]:
            return self._reply(400, f"{kind} needs {' and '.join(missing)}\n".encode())
        self.server.faults.order(kind, request.given)
        self._reply(200, b"Ok.\n")

    def _body(self, request):
        """The whole body as it came."""
        self.connection.settimeout(request.receive_seconds())
        try:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                return b"".join(self._chunks())
            return self._exactly(int(self.headers.get("Content-Length") or 0))
        except TimeoutError:
            raise Refused(_STALLED) from None
        except (OSError, ValueError):
            raise Gone from None
        finally:
            self.connection.settimeout(_IDLE_SECONDS)

    def _chunks(self):
        while size := int(self.rfile.readline(100).partition(b";")[0], 16):
            yield self._exactly(size)
            self._exactly(2)
        while self.rfile.readline(1000) not in (b"\r\n", b"\n", b""):
            pass  # trailers

    def _exactly(self, size):
        data = self.rfile.read(size)
        if len(data) < size:
            raise Gone
        return data

    def _decoded(self, request, body):
        """The body unpacked from the ways in which the interface takes it."""
        try:
            encoding = self.headers.get("Content-Encoding", "")
            if encoding == "gzip":
                body = gzip.decompress(body)
            elif encoding == "lz4":
                body = lz4.frame.decompress(body)
            elif encoding:
                raise Refused(f"Code: 48. DB::Exception: Encoding {encoding} is not built in. (NOT_IMPLEMENTED)")
            return clickhouse_blocks.unpack(body) if request.flag("decompress") else body
        except clickhouse_blocks.Malformed as malformed:
            raise Refused(str(malformed)) from None
        except (OSError, EOFError, RuntimeError, ValueError, zlib.error) as error:
            raise Refused(f"Code: 271. DB::Exception: Cannot decompress: {error}. (CANNOT_DECOMPRESS)") from None

    def _answer(self, request, answer, summary):
        if request.flag("compress"):
            answer = clickhouse_blocks.pack(answer)
        headers = {"X-ClickHouse-Query-Id": request.id, "X-ClickHouse-Summary": json.dumps(summary)}
        self._reply(200, answer, "application/octet-stream", headers)

    def _refuse(self, request, text):
        code = int(re.match(r"Code: (\d+)", text)[1])
        if "(version " not in text:
            text += f" (version {self.server.engine.version})"
        # What is left of a body that stalled is no request.
        self.close_connection |= text.startswith(_STALLED)
        headers = {"X-ClickHouse-Exception-Code": str(code), "X-ClickHouse-Query-Id": request.id}
        self._reply(_STATUS.get(code, 500), f"{text}\n".encode(), "text/plain; charset=UTF-8", headers)

    def _reply(self, status, body, content="text/plain; charset=UTF-8", headers=None):
        self.send_response(status)
        for name, value in {"Content-Type": content, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close" if self.close_connection else "keep-alive")
        self.end_headers()
        self.connection.settimeout(_ANSWER_SECONDS)
        self.wfile.write(body)
        self.connection.settimeout(_IDLE_SECONDS)

    def log_message(self, *_):
        """Nothing: the record holds what tests want to know."""


class Server(socketserver.ThreadingTCPServer):
    """One thread a connection; with a certificate it serves TLS."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port, engine, faults, record, credentials, certificate=None):
        self.engine, self.faults, self.record = engine, faults, record
        self.user = credentials.partition(":")[0]
        self.credentials = credentials.encode()
        self.cpu, self._adding = 0.0, threading.Lock()
        self._tls = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        super().__init__((LOOPBACK, port), Handler)

    def add_cpu(self, seconds):
        """Counts what a request took here."""
        with self._adding:
            self.cpu += seconds

    def get_request(self):
        """Wraps a TLS connection without a handshake; the first read does it, in the connection's own thread."""
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request, client_address):
        """One line for a connection that failed."""
        print(f"connection failed: {sys.exc_info()[1]!r}", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description="The ClickHouse engine behind its HTTP interface.")
    for option in ("--data", "--database", "--user", "--password", "--certificate"):
        parser.add_argument(option, required=True)
    for option in ("--port", "--tls-port"):
        parser.add_argument(option, required=True, type=int)
    given = parser.parse_args()
    engine, faults, record = Engine(Path(given.data), given.database), Faults(), Record()
    shared = (engine, faults, record, f"{given.user}:{given.password}")
    servers = [Server(given.port, *shared), Server(given.tls_port, *shared, given.certificate)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"ClickHouse {engine.version}: ready for connections", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    signal.pause()


if __name__ == "__main__":
    main()
