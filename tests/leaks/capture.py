"""What leaves a process, kept: a tap on a TCP connection, and the pages it serves."""

import asyncio
import threading
import urllib.error
import urllib.request
from contextlib import suppress

PAGES = ("/metrics", "/readyz", "/livez", "/")


class Tap:
    """Listens on a port of the loopback address, forwards to `upstream` (`host:port`) and keeps what the client sends;
    with `both` what it is answered too: a server's answers may quote what it was sent."""

    _loop = None

    def __init__(self, upstream, port=0, both=True):
        host, _, upstream_port = upstream.rpartition(":")
        self._upstream, self._both = (host, int(upstream_port)), both
        self._kept = []
        if Tap._loop is None:
            Tap._loop = asyncio.new_event_loop()
            threading.Thread(target=Tap._loop.run_forever, name="taps", daemon=True).start()
        listening = asyncio.start_server(self._accept, "127.0.0.1", port)
        self._server = asyncio.run_coroutine_threadsafe(listening, Tap._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]

    def content(self):
        """Everything so far, each connection and direction in one piece."""
        return b"\n".join(bytes(kept) for kept in list(self._kept))

    def close(self):
        """Takes no more connections."""
        Tap._loop.call_soon_threadsafe(self._server.close)

    async def _accept(self, reader, writer):
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.close()
            return
        sent, answered = bytearray(), bytearray()
        self._kept.append(sent)
        if self._both:
            self._kept.append(answered)
        ways = [
            self._pass_on(reader, up_writer, sent),
            self._pass_on(up_reader, writer, answered if self._both else None),
        ]
        await asyncio.gather(*ways, return_exceptions=True)

    @staticmethod
    async def _pass_on(reader, writer, kept):
        with suppress(OSError):
            while piece := await reader.read(1 << 18):
                if kept is not None:
                    kept += piece
                writer.write(piece)
                await writer.drain()
        writer.close()


class Pages:
    """Reads a process's pages again and again, and keeps each answer that differs from the one before."""

    def __init__(self):
        self._kept, self._last = [], {}
        self._instance = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def watch(self, instance):
        """From now on this one's."""
        self._instance = instance

    def content(self):
        """All answers."""
        return b"\n".join(self._kept)

    def end(self):
        """Stops."""
        self._stop.set()
        self._thread.join()

    def _read(self):
        while not self._stop.wait(0.5):
            address = self._instance and self._instance.address()
            if address:
                for page in PAGES:
                    self._ask(*address, page)

    def _ask(self, host, port, page):
        try:
            with urllib.request.urlopen(f"http://{host}:{port}{page}", timeout=2) as answer:
                content = str(answer.headers).encode() + answer.read()
        except urllib.error.HTTPError as error:
            content = str(error.headers).encode() + error.read()
        except OSError:
            return
        if self._last.get(page) != content:
            self._last[page] = content
            self._kept.append(content)
