"""What the web app costs: CPU of its process at 2,000 presses a second, and CPU and memory with 500 watchers of 1,000
presses a second. The broker is the demo's, in another process; so are the visitors, here.

    python3 -m tests.web.bench --seconds 30

Exit code 1 when a goal is missed: 1 CPU second for 2,000 presses; one core and 200 MB for the watchers; or when the load was not
what it should be.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
import uuid

from tests.web.stage import Demo, WebApp

# Of the rate that is wanted; with less, the machine was too busy for a figure.
ENOUGH = 0.9
TICKS = os.sysconf("SC_CLK_TCK")


def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid):
    return int(open(f"/proc/{pid}/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def visitor(port, rate, until, counts):
    """One session that presses at an even rate over one connection, without waiting for the answer before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = (
        f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: application/json\r\n"
        f"Cookie: pressline={uuid.uuid4()}.0.7\r\nContent-Length: 0\r\n\r\n"
    ).encode()

    async def answers():
        while data := await reader.read(65536):
            counts["acknowledged"] += data.count(b"HTTP/1.1 200")
            counts["refused"] += data.count(b"HTTP/1.1 4") + data.count(b"HTTP/1.1 5")

    reading = asyncio.create_task(answers())
    began, sent = time.monotonic(), 0
    while time.monotonic() < until:
        due = int((time.monotonic() - began) * rate) - sent
        if due > 0:
            writer.write(request * due)
            sent += due
            counts["sent"] += due
        await asyncio.sleep(0.02)
    await asyncio.sleep(3)
    reading.cancel()
    writer.close()


async def watcher(port, until, counts):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /live/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    while (left := until - time.monotonic()) > 0:
        try:
            data = await asyncio.wait_for(reader.read(65536), left)
        except TimeoutError:
            break
        if not data:
            counts["lost"] += 1
            break
        counts["bytes"] += len(data)
        counts["frames"] += data.count(b"event: frame")
        counts["snapshots"] += data.count(b"event: snapshot")
    writer.close()


async def presses(app, rate, seconds):
    counts = dict(sent=0, acknowledged=0, refused=0)
    before, began = cpu(app.process.pid), time.monotonic()
    visitors = 50
    await asyncio.gather(*(visitor(app.port, rate / visitors, began + seconds, counts) for _ in range(visitors)))
    used = cpu(app.process.pid) - before
    per = used / max(counts["acknowledged"], 1) * 2000
    print(
        f"presses: {counts['sent']} sent in {seconds} s ({counts['sent'] / seconds:.0f}/s), {counts['acknowledged']} acknowledged, "
        f"{counts['refused']} refused; {used:.2f} CPU s, {per:.3f} CPU s for 2,000; {resident_mb(app.process.pid):.0f} MB"
    )
    return per <= 1.0 and counts["refused"] == 0 and counts["acknowledged"] == counts["sent"] >= ENOUGH * rate * seconds


async def watchers(app, number, seconds, rate):
    counts = dict(bytes=0, frames=0, snapshots=0, lost=0)
    read = app.metric("pressline_web_records_read_total")
    before, began = cpu(app.process.pid), time.monotonic()
    await asyncio.gather(*(watcher(app.port, began + seconds, counts) for _ in range(number)))
    took, used = time.monotonic() - began, cpu(app.process.pid) - before
    read = app.metric("pressline_web_records_read_total") - read
    memory = resident_mb(app.process.pid)
    print(
        f"watchers: {number} for {took:.0f} s, {read / took:.0f} records/s of {rate} wanted; {counts['frames'] / number / took:.1f} frames/s "
        f"and {counts['bytes'] / number / took / 1000:.1f} kB/s each; {used / took:.2f} of a core, {memory:.0f} MB, "
        f"{counts['snapshots']} snapshots, {counts['lost']} lost"
    )
    return used / took <= 1.0 and memory <= 200 and counts["lost"] == 0 and read / took >= ENOUGH * rate


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--presses", type=int, default=2000)
    parser.add_argument("--watchers", type=int, default=500)
    parser.add_argument("--rate", type=int, default=1000)
    arguments = parser.parse_args()
    good = True
    for rate, measure in (
        (1, lambda app: presses(app, arguments.presses, arguments.seconds)),
        (arguments.rate, lambda app: watchers(app, arguments.watchers, arguments.seconds, arguments.rate)),
    ):
        with tempfile.TemporaryDirectory() as folder:
            demo = Demo(rate)
            limits = dict.fromkeys(("web.session_presses_per_minute", "web.address_presses_per_minute"), 1_000_000)
            app = WebApp(demo, folder, **limits)
            try:
                app.start()
                good &= asyncio.run(measure(app))
            finally:
                app.kill()
                demo.end()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
