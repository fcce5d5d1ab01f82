#!/usr/bin/env python3
"""Draws src/web/assets/world.svg from Natural Earth's outlines: a path for each country, a dot for each too small for one.

Run it again only for newer outlines: it fetches two pinned packages into a temporary folder (npm and pip must be there).
    data/world/build.py [OUTPUT]
The projection is Equal Earth (Savric, Patterson, Jenny 2018: equal area), done here, so that the page has no geometry to compute.
src/web/map.rs projects single points by the same formula; a test holds the two together by the dots.
"""

import json
import math
import pathlib
import subprocess
import sys
import tempfile
import venv

ATLAS = "world-atlas@2.0.2"
CODES = "pycountry==26.2.16"
WIDTH = 1000.0
# Half of the width of the projected world, in radians of the equator: x at longitude 180, latitude 0.
HALF = 2.7066299836960748
TOP, BOTTOM = 83.7, -60.0
# Natural Earth counts these to another country, or leaves them out: degrees north and east of a place in them.
BY_HAND = {
    "BQ": (12.2, -68.3), "BV": (-54.4, 3.4), "CC": (-12.2, 96.8), "CX": (-10.5, 105.6), "GF": (4.0, -53.0), "GI": (36.1, -5.4),
    "GP": (16.2, -61.5), "MQ": (14.7, -61.0), "RE": (-21.1, 55.5), "SJ": (78.2, 16.0), "TK": (-9.2, -171.8), "TV": (-8.5, 179.2),
    "UM": (19.3, 166.6), "YT": (-12.8, 45.2),
}  # fmt: skip


def equal_earth(longitude, latitude):
    """Degrees to x and y of the picture."""
    a1, a2, a3, a4 = 1.340264, -0.081106, 0.000893, 0.003796
    root = math.sqrt(3) / 2
    theta = math.asin(root * math.sin(math.radians(latitude)))
    t2 = theta * theta
    t6 = t2**3
    slope = 9 * a4 * t6 * t2 + 7 * a3 * t6 + 3 * a2 * t2 + a1
    x = math.radians(longitude) * math.cos(theta) / (root * slope)
    y = theta * (a4 * t6 * t2 + a3 * t6 + a2 * t2 + a1)
    scale = WIDTH / (2 * HALF)
    return WIDTH / 2 + x * scale, -y * scale


OFFSET = equal_earth(0, TOP)[1]
HEIGHT = equal_earth(0, BOTTOM)[1] - OFFSET


def point(longitude, latitude):
    x, y = equal_earth(longitude, latitude)
    return x, y - OFFSET


def features(topology):
    """Name, ISO 3166-1 number and polygons (lists of rings of degrees) of each country."""
    scale, shift = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs = []
    for arc in topology["arcs"]:
        x = y = 0
        line = []
        for dx, dy in arc:
            x, y = x + dx, y + dy
            line.append((x * scale[0] + shift[0], y * scale[1] + shift[1]))
        arcs.append(line)

    def ring(indexes):
        line = []
        for index in indexes:
            part = arcs[index] if index >= 0 else arcs[~index][::-1]
            line += part[1:] if line else part
        return line

    for shape in topology["objects"]["countries"]["geometries"]:
        polygons = shape.get("arcs", [])
        if shape["type"] == "Polygon":
            polygons = [polygons]
        yield shape["properties"]["name"], shape.get("id"), [[ring(r) for r in polygon] for polygon in polygons]


def area(ring):
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(ring, ring[1:] + ring[:1]))) / 2


def middle(polygons):
    ring = max((polygon[0] for polygon in polygons), key=area)
    return sum(p[0] for p in ring) / len(ring), sum(p[1] for p in ring) / len(ring)


def halves(ring):
    """The ring's parts within 180 degrees of longitude: Russia and Fiji go over the edge of the picture."""
    line, shift = [], 0.0
    for before, here in zip([ring[0], *ring], ring):
        if abs(here[0] - before[0]) > 180:
            shift += 360 if before[0] > here[0] else -360
        line.append((here[0] + shift, here[1]))
    for turn in (-360, 0, 360):
        part = [(x + turn, y) for x, y in line]
        for sign in (1, -1):
            part = cut(part, sign)
        if part:
            yield part


def cut(line, sign):
    """What lies west of 180 degrees (sign 1), or east of -180 (sign -1)."""
    out = []
    for (ax, ay), (bx, by) in zip(line[-1:] + line[:-1], line):
        a, b = 180 - sign * ax, 180 - sign * bx
        if (a >= 0) != (b >= 0):
            share = a / (a - b)
            out.append((sign * 180.0, ay + share * (by - ay)))
        if b >= 0:
            out.append((bx, by))
    return out


def path(polygons):
    out = []
    for polygon in polygons:
        for ring in [part for whole in polygon for part in halves(whole)]:
            before, steps = None, []
            for longitude, latitude in ring:
                x, y = point(longitude, min(max(latitude, BOTTOM), TOP))
                here = (round(x * 10), round(y * 10))
                if here == before:
                    continue
                if before is None:
                    steps.append(f"M{number(here[0])} {number(here[1])}l")
                else:
                    steps.append(f"{number(here[0] - before[0])} {number(here[1] - before[1])}")
                before = here
            if len(steps) > 3:
                out.append(steps[0] + " ".join(steps[1:]) + "z")
    return "".join(out)


def number(tenths):
    text = f"{tenths / 10:g}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def fetch(folder):
    subprocess.run(["npm", "pack", "--silent", ATLAS], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["tar", "xf", next(folder.glob("world-atlas-*.tgz"))], cwd=folder, check=True)
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", CODES], check=True)
    listing = "import json, pycountry; print(json.dumps({c.numeric: [c.alpha_2, getattr(c, 'common_name', c.name)] for c in pycountry.countries}))"
    countries = json.loads(subprocess.run([python, "-c", listing], check=True, capture_output=True, text=True).stdout)
    return [json.loads((folder / f"package/countries-{size}.json").read_text()) for size in ("110m", "50m", "10m")], countries


def main():
    here = pathlib.Path(__file__).resolve().parents[2] / "src/web/assets/world.svg"
    output = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here
    with tempfile.TemporaryDirectory() as folder:
        sizes, countries = fetch(pathlib.Path(folder))
    lines, drawn = [], set()
    for name, number_of, polygons in sorted(features(sizes[0])):
        code, title = countries.get(number_of, ("XK" if name == "Kosovo" else "", name))
        shape = path(polygons)
        if not shape or code == "AQ":
            continue
        drawn.add(code)
        mark = f' id="c-{code}"' if code else ""
        lines.append(f"<path{mark} d=\"{shape}\"><title>{title.replace('&', '&amp;')}</title></path>")
    dots = {}
    for topology in sizes[1:]:
        for _, number_of, polygons in features(topology):
            code = countries.get(number_of, ("", ""))[0]
            if code and code not in drawn and code not in dots and polygons:
                dots[code] = middle(polygons)[::-1]
    dots.update({code: place for code, place in BY_HAND.items() if code not in drawn})
    titles = {code: title for code, title in countries.values()}
    for code, (north, east) in sorted(dots.items()):
        if not BOTTOM < north < TOP:
            continue
        x, y = point(east, north)
        lines.append(f'<circle id="c-{code}" cx="{x:.1f}" cy="{y:.1f}" r="2"><title>{titles[code].replace("&", "&amp;")}</title></circle>')
    left_out = sorted(set(titles) - drawn - set(dots))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" id="world">\n<!-- Natural Earth (public domain) by way of world-atlas 2.0.2 (ISC), Equal Earth projection; see data/world/README.md -->\n'
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(head + '<g id="countries">\n' + "\n".join(lines) + "\n</g>\n</svg>\n")
    print(f"{output}: {output.stat().st_size} bytes, {len(drawn)} outlines, {len(dots)} dots, without: {' '.join(left_out)}; height {HEIGHT:.3f}, offset {OFFSET:.4f}")


if __name__ == "__main__":
    main()
