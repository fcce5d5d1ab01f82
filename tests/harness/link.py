"""A proxy between one pressline process and a database or broker: a test can hold its traffic, cut it and restore it."""

import asyncio
import threading
from contextlib import suppress


class Link:
    """Listens on a port of the loopback address, a free one unless it is given, and forwards to `upstream`, `host:port`."""

    _loop = None

    def __init__(self, upstream, port=0):
        host, _, upstream_port = upstream.rpartition(":")
        self._upstream = host, int(upstream_port)
        self._open = True
        self._connections = set()
        self._trap = None
        self.trapped = threading.Event()  # the trap has swallowed an answer
        self.held = 0  # bytes that wait for `release`
        self.sent = 0  # bytes that came from the client
        if Link._loop is None:
            Link._loop = asyncio.new_event_loop()
            threading.Thread(target=Link._loop.run_forever, name="links", daemon=True).start()
        self._released, self._heard = asyncio.Event(), asyncio.Event()
        self._released.set()
        self._heard.set()
        self.port = port
        self._call(self._listen())

    def hold(self):
        """From now on what the client sends is kept; connections stay."""
        self._call(self._set_held(True))

    def release(self):
        """What was kept is sent on, also that of clients that are gone."""
        self._call(self._set_held(False))

    def fall_silent(self):
        """Nothing passes any more in either direction, and nobody is told."""
        self._call(self._set_held(True, also_answers=True))

    def cut(self):
        """Ends all connections and takes no more."""
        self._call(self._cut())

    def restore(self):
        """Takes connections again; after silence everything passes again, what was kept, too."""
        self.release()
        if not self._open:
            self._call(self._listen())

    def lose_answer(self, after):
        """The next request that holds these bytes is passed on, its answer is not: the connection breaks instead."""
        self.trapped.clear()
        self._trap = after

    def close(self):
        """Ends it for good."""
        self._trap = None
        self.release()
        self.cut()

    @staticmethod
    def _call(work):
        return asyncio.run_coroutine_threadsafe(work, Link._loop).result(20)

    async def _listen(self):
        self._open = True
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _set_held(self, held, also_answers=False):
        for event in (self._released, self._heard):
            if not held:
                event.set()
            elif event is self._released or also_answers:
                event.clear()

    async def _cut(self):
        self._open = False
        self._server.close()
        for connection in list(self._connections):
            for writer in connection:
                writer.transport.abort()

    async def _accept(self, from_client, to_client):
        if not self._open:
            to_client.transport.abort()
            return
        try:
            from_server, to_server = await asyncio.open_connection(*self._upstream)
        except OSError:
            to_client.transport.abort()
            return
        connection = to_client, to_server
        self._connections.add(connection)
        state = {"trapped": False}
        try:
            up = asyncio.ensure_future(self._requests(from_client, to_server, state))
            down = asyncio.ensure_future(self._answers(from_server, to_client, state))
            await asyncio.gather(up, down, return_exceptions=True)
        finally:
            self._connections.discard(connection)
            for writer in connection:
                writer.close()

    async def _requests(self, reader, writer, state):
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                self.sent += len(data)
                if not self._released.is_set():
                    self.held += len(data)
                    await self._released.wait()
                    self.held -= len(data)
                if self._trap and self._trap in data:
                    self._trap, state["trapped"] = None, True
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _answers(self, reader, writer, state):
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._heard.wait()
                if state["trapped"]:
                    self.trapped.set()
                    writer.transport.abort()
                    break
                # A client that is gone while its request is held: the server's side goes on.
                if not writer.is_closing():
                    writer.write(data)
                    await writer.drain()
        writer.close()
