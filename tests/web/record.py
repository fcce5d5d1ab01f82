"""README's pictures of the map: docs/images/map.png, and docs/images/map-moving.png, an animated PNG of a few seconds.

    python3 -m tests.web.record

From a demo in a headless Chromium. The animation's frames are the browser's own PNGs, joined chunk by chunk.
"""

import struct
import sys
import tempfile
import time
import zlib
from pathlib import Path

from tests.harness.browser import Browser
from tests.harness.paths import ROOT
from tests.harness.waiting import await_that
from tests.web.stage import Demo

FRAMES, PAUSE_MS = 22, 200
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunks(png):
    at = len(SIGNATURE)
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += length + 12


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def animated(pngs):
    """Pictures of one size and kind as one animated PNG that runs for ever."""
    (header,) = (data for kind, data in chunks(pngs[0]) if kind == b"IHDR")
    width, height = struct.unpack(">II", header[:8])
    out = [SIGNATURE, chunk(b"IHDR", header), chunk(b"acTL", struct.pack(">II", len(pngs), 0))]
    number = 0
    for at, png in enumerate(pngs):
        control = struct.pack(">IIIIIHHBB", number, width, height, 0, 0, PAUSE_MS, 1000, 0, 0)
        out.append(chunk(b"fcTL", control))
        number += 1
        pixels = b"".join(data for kind, data in chunks(png) if kind == b"IDAT")
        if at == 0:
            out.append(chunk(b"IDAT", pixels))
        else:
            out.append(chunk(b"fdAT", struct.pack(">I", number) + pixels))
            number += 1
    return b"".join([*out, chunk(b"IEND", b"")])


def main():
    images = ROOT / "docs/images"
    images.mkdir(parents=True, exist_ok=True)
    demo = Demo(30)
    try:
        with Browser() as browser, tempfile.TemporaryDirectory() as folder:
            browser.devtools("Emulation.setScrollbarsHidden", hidden=True)
            browser.look_like(width=1000, height=720, dark=True)
            browser.open(demo.page + "live")
            await_that("countries are coloured", lambda: browser.count("#countries [class^=k]") > 60)
            browser.screenshot(images / "map.png")
            # The map alone, small: what moves.
            browser.look_like(width=600, height=900, dark=True)
            browser.run("scrollTo(0, 0)")
            frames = []
            for number in range(FRAMES):
                began = time.monotonic()
                file = Path(folder) / f"{number}.png"
                browser.screenshot(file, of="#map")
                frames.append(file.read_bytes())
                time.sleep(max(0, PAUSE_MS / 1000 - (time.monotonic() - began)))
            (images / "map-moving.png").write_bytes(animated(frames))
    finally:
        demo.end()
    for file in ("map.png", "map-moving.png"):
        print(f"{images / file}: {(images / file).stat().st_size} bytes")


if __name__ == "__main__":
    sys.exit(main())
