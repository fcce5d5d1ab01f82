"""A proxy that understands the frames of Kafka's protocol and does to chosen ones what a bad network does.

It stands behind the broker's listener PROXIED, whose advertised address is the proxy's, so that a client that begins
here stays here. It changes no byte unless a rule says so. It runs on a thread of its own; rules are added from any thread.

A request frame: length (4 bytes), API key (2), API version (2), correlation id (4), client id (2 + text), body. A
response frame: length (4), correlation id (4), body; which API it answers follows from the request.
"""

import asyncio
import struct
import threading
from contextlib import suppress

PRODUCE, METADATA, OFFSET_FETCH, INIT_PRODUCER_ID = 0, 3, 9, 22
ADD_PARTITIONS, ADD_OFFSETS, END_TXN, TXN_OFFSET_COMMIT = 24, 25, 26, 28
NAMES = {
    PRODUCE: "Produce",
    INIT_PRODUCER_ID: "InitProducerId",
    ADD_OFFSETS: "AddOffsetsToTxn",
    END_TXN: "EndTxn",
    TXN_OFFSET_COMMIT: "TxnOffsetCommit",
}
_LENGTH = struct.Struct(">i")
_REQUEST = struct.Struct(">hhih")
_MOST = 200_000_000


class Rule:
    """What happens to the frames of one API of one client; `times` of them, all while it is None.

    `action` is one of: hold (kept until `release`), hold-and-close (the client's connection is closed as well), drop, delay
    (by `seconds`), cut (half of the frame is passed on, then both connections are closed), edit (`edit(frame, API version)` is passed on). `stage` is request or response.
    """

    def __init__(self, client, api, action, stage="request", times=1, seconds=0.0, edit=None):
        self.client, self.api, self.action, self.stage, self.edit = client, api, action, stage, edit
        self.times, self.seconds = times, seconds
        self.error = None  # of `edit`
        self.hits = 0
        self.hit = threading.Event()
        self.held = []  # (connection, frame)

    def takes(self, client, api, stage):
        """Whether this frame is one of the rule's; counts it."""
        if client != self.client or api != self.api or stage != self.stage:
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.hits += 1
        return True


class Proxy:
    """Listens on `listen` and forwards to `upstream`, both `host:port`."""

    def __init__(self, listen, upstream):
        self._listen, self._upstream = _address(listen), _address(upstream)
        self._rules = []
        self._holes = {}  # client → directions in which nothing passes
        self._watches = []
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        threading.Thread(target=self._run, name="proxy", daemon=True).start()
        if not self._ready.wait(10):
            raise OSError(f"the proxy cannot listen on {listen}")

    def add(self, rule):
        """Adds a rule; it is asked after those that are there."""
        self._loop.call_soon_threadsafe(self._rules.append, rule)
        return rule

    def remove(self, rule):
        """Removes a rule; what it holds stays held."""
        self._call(self._remove, rule)

    def release(self, rule, seconds=5.0):
        """Sends on what a rule holds, on the connections it came on; the broker's answers, oldest first."""
        return asyncio.run_coroutine_threadsafe(self._release(rule, seconds), self._loop).result(seconds + 5)

    def black_hole(self, client, directions=("request", "response")):
        """From now on nothing of this client passes in these directions; connections stay open."""
        self._call(self._holes.__setitem__, client, set(directions))

    def lift(self, client):
        """Ends a black hole; its connections are closed, as what was swallowed is missing from their streams."""
        self._call(self._lift, client)

    def _call(self, function, *arguments):
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (function(*arguments), done.set()))
        done.wait(10)

    def _remove(self, rule):
        with suppress(ValueError):
            self._rules.remove(rule)

    def _lift(self, client):
        self._holes.pop(client, None)
        for connection in list(self._connections):
            if connection.client == client and connection.holed:
                connection.close()

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._connections = set()
        self._loop.run_until_complete(self._serve())

    async def _serve(self):
        server = await asyncio.start_server(self._accept, *self._listen)
        self._ready.set()
        async with server:
            await server.serve_forever()

    async def _accept(self, reader, writer):
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.close()
            return
        connection = _Connection(self, (reader, writer), (up_reader, up_writer))
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    async def _release(self, rule, seconds):
        answers = []
        held, rule.held = rule.held, []
        for connection, frame in held:
            answers.append(await connection.send_late(frame, seconds))
        return answers

    def rule_for(self, client, api, stage):
        """The first rule that takes this frame."""
        return next((rule for rule in self._rules if rule.takes(client, api, stage)), None)

    def is_holed(self, client, stage):
        """Whether a black hole swallows this frame."""
        return stage in self._holes.get(client, ())


class _Connection:
    """One client's connection and the one to the broker behind it."""

    def __init__(self, proxy, client_side, broker_side):
        self._proxy = proxy
        self._from_client, self._to_client = client_side
        self._from_broker, self._to_broker = broker_side
        self._apis = {}  # correlation id → API key and version
        self._late = None
        self.client = None
        self.holed = False
        self._holds = 0

    async def run(self):
        """Forwards both ways until one side is gone; a held frame keeps the broker's side open."""
        tasks = [asyncio.ensure_future(self._requests()), asyncio.ensure_future(self._responses())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        self._to_client.close()
        while self._holds and not tasks[1].done():
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._to_broker.close()

    def close(self):
        """Closes both sides."""
        self._holds = 0
        self._to_client.close()
        self._to_broker.close()

    async def send_late(self, frame, seconds):
        """Sends a held frame to the broker and waits for its answer; None if there is none."""
        self._late = self._proxy._loop.create_future()
        self._late_correlation = _REQUEST.unpack_from(frame, 4)[2]
        try:
            self._to_broker.write(frame)
            await self._to_broker.drain()
            return await asyncio.wait_for(self._late, seconds)
        except (OSError, asyncio.TimeoutError):
            return None
        finally:
            self._holds = max(0, self._holds - 1)

    async def _requests(self):
        async for frame in _frames(self._from_client):
            api, version, correlation, length = _REQUEST.unpack_from(frame, 4)
            if self.client is None and length > 0:
                self.client = frame[14 : 14 + length].decode()
            self._apis[correlation] = api, version
            if not await self._pass_on(frame, api, version, "request", self._to_broker):
                return

    async def _responses(self):
        async for frame in _frames(self._from_broker):
            correlation = _LENGTH.unpack_from(frame, 4)[0]
            if self._late is not None and correlation == self._late_correlation:
                if not self._late.done():
                    self._late.set_result(frame)
                continue
            api, version = self._apis.pop(correlation, (None, None))
            if not await self._pass_on(frame, api, version, "response", self._to_client):
                return

    async def _pass_on(self, frame, api, version, stage, writer):
        """Does to a frame what rules say; false when the connection ends with it."""
        if self._proxy.is_holed(self.client, stage):
            self.holed = True
            return True
        rule = self._proxy.rule_for(self.client, api, stage)
        if rule is not None:
            rule.hit.set()
            if rule.action in ("hold", "hold-and-close"):
                self._holds += 1
                rule.held.append((self, frame))
                if rule.action == "hold-and-close":
                    self._to_client.close()
                return True
            if rule.action == "drop":
                return True
            if rule.action == "edit":
                try:
                    frame = rule.edit(frame, version)
                except Exception as error:  # noqa: BLE001 - told where the rule is used
                    rule.error = error
            if rule.action == "delay":
                await asyncio.sleep(rule.seconds)
            if rule.action == "cut":
                with suppress(OSError):
                    writer.write(frame[: len(frame) // 2])
                    await writer.drain()
                return False
        # A client that is gone while its request is held: the broker's side goes on.
        if stage == "response" and writer.is_closing():
            return True
        try:
            writer.write(frame)
            await writer.drain()
        except OSError:
            return stage == "response" and self._holds > 0
        return True


async def _frames(reader):
    """Whole frames, length included, until the other side closes."""
    with suppress(asyncio.IncompleteReadError, OSError):
        while True:
            head = await reader.readexactly(_LENGTH.size)
            length = _LENGTH.unpack(head)[0]
            if not 0 <= length <= _MOST:
                return
            yield head + await reader.readexactly(length)


def _address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)
