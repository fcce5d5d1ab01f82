"""The web app in a real browser: Debian's Chromium, headless, against `pressline demo` and `pressline web`.

    python3 -m tests.web.run                      all
    python3 -m tests.web.run --only live          those with this in their name
    python3 -m tests.web.run --screenshots FOLDER keep pictures of the pages

Ends with `N passed, M failed`; exit code 1 when anything failed. Without Chromium or its driver it says so and ends.
"""

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path

from tests.harness.browser import Browser, missing
from tests.harness.waiting import Failure, await_that
from tests.web.stage import BINARY, Demo, WebApp, run_each

ADDRESS = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])|(?<![\w:])(?:[0-9a-f]{1,4}:){3,7}[0-9a-f:]{1,}")
# In the page: text of all elements that show some against what lies behind it, as WCAG reckons.
CONTRAST = r"""
const part = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const rgb = (text) => text.match(/[\d.]+/g).map(Number);
const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = rgb(getComputedStyle(at).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
const poor = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || element.closest("svg, noscript, script, .skip, [hidden]") || !element.getClientRects().length) continue;
  const [a, b] = [light(rgb(getComputedStyle(element).color)), light(behind(element))];
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < 4.5) poor.push(element.tagName + "." + element.className + " " + contrast.toFixed(2));
}
return poor;
"""
# Where the focus is among all that can have it, in the order of the page, and whether it is seen there.
FOCUS = """
const all = [...document.querySelectorAll("a[href], button, input")].filter((e) => e.getClientRects().length && (e.type !== "radio" || e.checked));
const style = getComputedStyle(document.activeElement);
return [all.indexOf(document.activeElement), all.length, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
"""
PAGES = ("", "live", "stats", "about", "reset")
TAB, ENTER = "\ue004", "\ue007"
# Roles that mean nothing without a name.
NAMED = ("button", "link", "radio", "image", "navigation", "table", "heading")


class Scene:
    def __init__(self, browser, demo, app, pictures):
        self.browser, self.demo, self.app, self.pictures = browser, demo, app, pictures

    def expect(self, holds, what):
        if not holds:
            raise Failure(what)

    def picture(self, name):
        if self.pictures:
            self.browser.screenshot(self.pictures / f"{name}.png")

    def number(self, selector):
        digits = re.sub(r"\D", "", self.browser.text(selector))
        return int(digits or 0)

    def calm(self):
        """Nothing that the browser complains of, and no address on the page but our own."""
        self.expect(not (found := self.browser.complaints()), f"the browser complains: {found}")
        shown = re.sub(r"<svg.*?</svg>", "", self.browser.source(), flags=re.DOTALL)
        own = {"127.0.0.1"}
        self.expect(not (found := set(ADDRESS.findall(shown)) - own), f"an address is on the page: {found}")


def press_and_message(scene):
    browser = scene.browser
    browser.open(scene.demo.page)
    scene.expect("not pressed yet" in browser.text("#presses"), "a first visit has a count")
    browser.click("button.big")
    await_that("the first answer", lambda: browser.text("#line").startswith("Your first press."))
    browser.type("button.big", ENTER)
    await_that("the answer to the Enter key", lambda: browser.text("#presses") == "You have pressed 2 times.")
    for _ in range(3):
        browser.click("button.big")
    await_that("quick presses, each counted", lambda: browser.text("#presses") == "You have pressed 5 times.")
    cookie = browser.cookies()["pressline"]
    scene.expect(cookie["httpOnly"] and cookie["sameSite"] == "Lax", f"the cookie is {cookie}")
    scene.expect(29 * 86400 < cookie["expiry"] - time.time() < 31 * 86400, f"the cookie is {cookie}")
    elsewhere = browser.run(
        "return performance.getEntriesByType('resource').map((r) => r.name).filter((n) => !n.startsWith(location.origin))"
    )
    scene.expect(not elsewhere, f"something came from elsewhere: {elsewhere}")
    scene.picture("button")
    scene.calm()


def statistics(scene):
    browser = scene.browser
    browser.open(scene.demo.page + "stats")
    await_that("own presses come through, without loading again", lambda: scene.number("#own") == 5)
    scene.expect(browser.count("table caption") >= 2, "tables are missing")
    before = scene.number("#all")
    await_that("the numbers refresh themselves", lambda: scene.number("#all") > before)
    scene.picture("stats")
    scene.calm()


def live_map_moves(scene):
    browser = scene.browser
    browser.open(scene.demo.page + "live")
    await_that("a press lights up", lambda: browser.count("#world .light") > 3)
    before = scene.number("#presses")
    await_that("the counter moves", lambda: scene.number("#presses") > before)
    await_that("countries are coloured", lambda: browser.count("#countries [class^=k]") > 5)
    scene.expect(browser.count("#countries path") > 170, "the map is not whole")
    scene.expect(browser.count("#records li") == 8 and '"country_code"' in browser.text("#records"), "no records")
    scene.picture("live")
    browser.click("input[value='1']")
    await_that("the window changes", lambda: "last minute" in browser.text("#span"))
    browser.click("#pause")
    stood = scene.number("#presses")
    time.sleep(1.5)
    scene.expect(scene.number("#presses") == stood, "a paused map moves")
    browser.click("#pause")
    await_that("it goes on", lambda: scene.number("#presses") > stood)
    scene.calm()


def a_hidden_tab_does_not_watch(scene):
    browser, app = scene.browser, scene.app
    hide = "Object.defineProperty(document, 'hidden', { value: arguments[0], configurable: true });"
    hide += "document.dispatchEvent(new Event('visibilitychange'));"
    browser.open(app.page + "live")
    await_that("the page watches", lambda: app.metric("pressline_web_watchers") == 1)
    browser.run(hide, True)
    await_that("a hidden one does not", lambda: app.metric("pressline_web_watchers") == 0)
    before = scene.number("#presses")
    browser.run(hide, False)
    await_that("shown again, it does", lambda: app.metric("pressline_web_watchers") == 1)
    await_that("and has what it missed", lambda: scene.number("#presses") > before)
    scene.calm()


def resumes_after_a_restart(scene):
    browser, app = scene.browser, scene.app
    browser.open(app.page + "live")
    await_that("it moves", lambda: scene.number("#presses") > 20)
    before = scene.number("#presses")
    app.stop()
    await_that("the page says so", lambda: "trying again" in browser.text("#state"))
    app.start()
    await_that("it comes back by itself", lambda: browser.text("#state") == "")
    await_that("with what it had, and more", lambda: scene.number("#presses") > before)
    browser.complaints()


def without_scripts(scene):
    browser = scene.browser
    browser.look_like(scripts=False)
    browser.open(scene.demo.page)
    before = browser.text("#presses")
    browser.click("button.big")
    await_that("a plain form presses", lambda: browser.text("#presses") not in ("", before))
    browser.open(scene.demo.page + "live")
    scene.expect(scene.number("#presses") > 0 and browser.count("#by-country tr") > 3, "the map's page is empty")
    scene.expect("Without scripts" in browser.text("noscript"), "nothing says why it stands still")
    browser.open(scene.demo.page + "stats")
    scene.expect(scene.number("#own") >= 5, "no statistics")
    browser.look_like()


def narrow_and_dark_screens(scene):
    browser = scene.browser
    for dark in (False, True):
        for width in (1280, 320):
            browser.look_like(width=width, height=900 if width > 600 else 640, dark=dark)
            for page in PAGES:
                browser.open(scene.demo.page + page)
                if page == "live":
                    await_that("the map moves", lambda: browser.count("#world .light") > 0)
                wide = browser.run("return document.scrollingElement.scrollWidth")
                scene.expect(wide <= width, f"/{page} is {wide} wide on a screen of {width}")
                poor = browser.run(CONTRAST)
                scene.expect(not poor, f"/{page} {'dark' if dark else 'light'}: contrast below 4.5: {poor[:5]}")
                scene.picture(f"{page or 'button'}-{width}-{'dark' if dark else 'light'}")
                scene.calm()
    browser.look_like(still=True)
    browser.open(scene.demo.page + "live")
    await_that("the map moves", lambda: browser.count("#world .light") > 0)
    name = browser.run("return getComputedStyle(document.querySelector('#world .light')).animationName")
    scene.expect(name == "none", f"lights move for who wants no motion: {name}")
    browser.look_like()


def by_keyboard(scene):
    """All that can be used is reached by the Tab key, in the order of the page, and seen to have the focus."""
    browser = scene.browser
    for page in PAGES:
        browser.open(scene.demo.page + page)
        if page == "live":
            await_that("its controls", lambda: not browser.run("return document.getElementById('controls').hidden"))
        reached = []
        while True:
            browser.press_key(TAB)
            at, number, is_seen = browser.run(FOCUS)
            if at < 0 or at in reached:
                break
            scene.expect(is_seen, f"/{page}: the focus is not seen at {at}")
            reached.append(at)
        scene.expect(reached == list(range(number)), f"/{page}: the Tab key goes to {reached} of {number}")
    browser.open(scene.demo.page + "live")
    browser.press_key(TAB)
    browser.press_key(ENTER)
    scene.expect(browser.run("return location.hash") == "#main", "the first Tab does not skip to the content")
    browser.run("document.querySelector('input[value=\"60\"]').focus()")
    browser.press_key("\ue012")
    await_that("an arrow key changes the window", lambda: "15 minutes" in browser.text("#span"))


def by_screen_reader(scene):
    """What is used has a name, each page has its landmarks, and what changes is read out where it should be, and only there."""
    browser = scene.browser
    for page in PAGES:
        browser.open(scene.demo.page + page)
        tree = browser.accessibility_tree()
        roles = [role for role, _, _ in tree]
        nameless = [role for role, name, takes_focus in tree if not name and (role in NAMED or takes_focus)]
        scene.expect(not nameless, f"/{page}: without a name: {nameless}")
        scene.expect(roles.count("main") == 1 and roles.count("navigation") == 1, f"/{page}: landmarks in {set(roles)}")
        scene.expect(browser.count("h1") == 1 and browser.run("return document.documentElement.lang") == "en", f"/{page}: heading or language")
        scene.expect(browser.count("nav [aria-current=page]") == (page != "reset"), f"/{page}: which page it is")
        scene.expect(browser.count("th:not([scope])") == 0, f"/{page}: heads of a table without a scope")
    browser.open(scene.demo.page)
    browser.run("window.live = document.querySelector('[role=status][aria-live=polite]')")
    browser.click("button.big")
    await_that("the answer is said where it is listened for", lambda: browser.run("return window.live.contains(document.getElementById('line')) && window.live.textContent.includes('have pressed')"))
    scene.expect(browser.count("#problem[role=alert][hidden]") == 1, "a problem would not be read out")
    browser.open(scene.demo.page + "live")
    flooded = browser.count(":is([aria-live], [role=status], [role=alert]) :is(#presses, #rate, #records, #by-country)")
    scene.expect(flooded == 0, "numbers that move all the time are read out")
    scene.expect(browser.count("#state[role=status]") == 1 and browser.count("#pause[aria-pressed]") == 1, "the state of the map")
    await_that("the map is one picture with a name", lambda: browser.count("#world[role=img][aria-label]") == 1)


def reset(scene):
    browser = scene.browser
    browser.open(scene.demo.page + "reset")
    browser.click("form button")
    await_that("it is forgotten", lambda: browser.text("h1") == "Forgotten")
    scene.expect("pressline" not in browser.cookies(), "the cookie is still there")
    browser.open(scene.demo.page)
    scene.expect("not pressed yet" in browser.text("#presses"), "somebody new has a count")
    scene.calm()


def broker_away(scene):
    browser, app = scene.browser, scene.app
    browser.open(app.page)
    browser.click("button.big")
    await_that("it presses", lambda: "have pressed" in browser.text("#presses"))
    before = browser.text("#presses")
    scene.demo.end()
    browser.click("button.big")
    await_that("the page says so", lambda: "Kafka does not answer" in browser.text("#problem"))
    scene.expect(browser.text("#presses") == before, "a press that was not acknowledged is counted")
    scene.picture("broker-away")
    scene.expect(not ADDRESS.findall(re.sub(r"127\.0\.0\.1(:\d+)?", "", app.log())), "an address is in the log")


TESTS = [
    press_and_message,
    statistics,
    live_map_moves,
    a_hidden_tab_does_not_watch,
    resumes_after_a_restart,
    without_scripts,
    narrow_and_dark_screens,
    by_keyboard,
    by_screen_reader,
    reset,
    broker_away,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--screenshots", type=Path)
    arguments = parser.parse_args()
    if lacks := missing():
        print(f"NOT TESTED in a browser: there is no {lacks} (Debian's packages chromium and chromium-driver)")
        return 0
    if not BINARY.exists():
        parser.error(f"{BINARY} is missing: make build")
    if arguments.screenshots:
        arguments.screenshots.mkdir(parents=True, exist_ok=True)
    demo = app = None
    with tempfile.TemporaryDirectory() as folder, Browser() as browser:
        try:
            demo = Demo()
            app = WebApp(demo, folder)
            app.start()
            return run_each(TESTS, arguments.only, Scene(browser, demo, app, arguments.screenshots))
        finally:
            if app:
                app.kill()
            if demo:
                demo.end()


if __name__ == "__main__":
    sys.exit(main())
