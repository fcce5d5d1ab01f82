"""A connection that a test can break: a proxy between pressline and a database or a broker."""

import asyncio
import threading
from contextlib import suppress


class Link:
    """Listens on the loopback address and forwards to `upstream` (`host:port`). Thread-safe."""

    def __init__(self, upstream, port=0):
        host, _, upstream_port = upstream.rpartition(":")
        self._upstream = host, int(upstream_port)
        self._open = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._passes = self._run(self._event())
        self._refuses = False
        self._server = self._run(asyncio.start_server(self._accept, "127.0.0.1", port))
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self):
        """Ends all connections; new ones are ended at once."""
        self._refuses = True
        self._run(self._close_all())

    def fall_silent(self):
        """Nothing passes any more, and nobody is told."""
        self._loop.call_soon_threadsafe(self._passes.clear)

    def restore(self):
        """Everything passes again; what was kept back, too."""
        self._refuses = False
        self._loop.call_soon_threadsafe(self._passes.set)

    def close(self):
        """For good."""
        self.cut()
        self._loop.call_soon_threadsafe(self._server.close)

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    @staticmethod
    async def _event():
        event = asyncio.Event()
        event.set()
        return event

    async def _close_all(self):
        for writer in self._open:
            writer.transport.abort()

    async def _accept(self, reader, writer):
        if self._refuses:
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.close()
            return
        both = {writer, up_writer}
        self._open |= both
        await asyncio.gather(self._pass_on(reader, up_writer), self._pass_on(up_reader, writer))
        self._open -= both

    async def _pass_on(self, reader, writer):
        with suppress(OSError):
            while piece := await reader.read(1 << 18):
                await self._passes.wait()
                writer.write(piece)
                await writer.drain()
        with suppress(OSError):
            writer.close()
