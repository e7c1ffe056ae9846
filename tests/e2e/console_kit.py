"""A browser for the tests of the console, and worlds for its pages to show."""

import contextlib
import os
import pathlib
import shutil

import pytest

from console.front import Front
from console.world import World

# A world has this many ended requests at its beginning; each 97th waited long.
SLOW = 5_000_000 - 5_000_000 % 97
SLOW_ID = f"req-{SLOW:032x}"
PAGES = ["", "requests", "requests?sort=slow", f"requests/{SLOW_ID}", "requests/req-live0", "live", "models", "models/llama-3.1-8b", "tenants", "tenants/research",
         "routes", "triage", "usage", "usage/rows", "playground", "models/gone", "nothing"]


def chromium():
    found = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"])), None)
    if not found:
        pytest.skip("there is no Chromium: install it (`apt-get install chromium`), or run `./x test`, which does where it may")
    return found


@pytest.fixture(scope="module")
def browser():
    # It keeps an event loop while it is there, beside which tests with loops of their own cannot be.
    binary = chromium()
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is of tests/e2e/requirements.txt: run `./x test`")
    # A browser does not start a sandbox as root.
    args = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=binary, args=args)
        yield running
        running.close()


@pytest.fixture(scope="session")
def axe():
    """The text of axe-core, which comes with its Python package."""
    package = pytest.importorskip("axe_playwright_python", reason="it is of tests/e2e/requirements.txt: run `./x test`")
    return (pathlib.Path(package.__file__).parent / "axe.min.js").read_text()


@pytest.fixture(scope="session")
def console(stack):
    """The console of the real program: where it is, and its key."""
    return stack.admin_url, (stack.folder / "data" / "admin.key").read_text().strip()


class Eyes:
    """What somebody with a browser sees: a page that is logged in, and all that went wrong in it."""

    def __init__(self, page, url, key):
        self.page, self.url, self.key = page, url, key
        self.errors, self.asked = [], []
        page.on("pageerror", lambda error: self.errors.append(f"page: {error}"))
        page.on("console", lambda message: self.note(message))
        page.on("dialog", lambda dialog: (self.errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self.asked.append(request.url))

    def note(self, message):
        # That a session is wanted, or a thing is gone, is for the pages to say.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(f"console: {message.text}")

    def log_in(self, at=""):
        self.page.goto(f"{self.url}/console/{at}")
        self.page.fill("#key", self.key)
        self.page.click("button[type=submit]")
        self.page.wait_for_selector("main h1")
        return self

    def go(self, path):
        """Opens a page of the console, and waits until it shows what it asked for."""
        self.page.goto(f"{self.url}/console/#/{path}")
        self.page.wait_for_function("path => location.hash === '#/' + path && document.querySelector('main h1') && !document.querySelector('main').innerText.includes('Loading…')", arg=path)
        return self.page

    def is_clean(self):
        assert self.errors == [], self.errors
        away = [url for url in self.asked if not url.startswith(self.url)]
        assert away == [], away


@pytest.fixture
def look(browser, console):
    """Looks at a world, or at the real gateway where there is none."""
    with contextlib.ExitStack() as open_things:
        def begin(world=None, *, at="", width=1280, height=800, theme="light", log_in=True):
            url, key = console
            if world is not None:
                url = open_things.enter_context(Front(url, world).running()).url
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
            open_things.callback(context.close)
            eyes = Eyes(context.new_page(), url, key)
            return eyes.log_in(at) if log_in else eyes
        yield begin


__all__ = ["PAGES", "SLOW_ID", "Eyes", "World", "axe", "browser", "console", "look"]
