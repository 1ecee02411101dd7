"""Open every page of the built site in a browser: tools/check_site.py build/html

Headless Chromium opens every page with the size of a screen and of a phone.  Each page must load
without an error, show its pictures, have its formulas typeset and links that lead somewhere, and be no
wider than the phone; the search must find certain pages.  Exit status 0, or 1 with a line for each
fault.  Without a browser nothing is checked, which is a fault if CI is set.

Needs playwright (PyPI) and a Chromium or Chrome on PATH, or CHROMIUM set to one.
"""
from __future__ import annotations

import functools
import os
import shutil
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlparse

SCREENS = {"screen": (1280, 900), "phone": (390, 844)}
SEARCHES = {"bounds": "fitting", "leastsq_batch": "batch", "covariance": "errors"}
OFFLINE = ["--disable-background-networking", "--disable-component-update", "--disable-sync",
           "--no-first-run", "--disable-gpu", "--no-sandbox"]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def serve(site: Path) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def pages_of(site: Path) -> list[str]:
    """Every page except those of Sphinx without text."""
    return sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html")
                  if not path.is_relative_to(site / "_static") and path.name != "search.html")


FACTS = """() => ({
    width: document.documentElement.scrollWidth,
    broken: [...document.images].filter(i => !i.complete || i.naturalWidth === 0).map(i => i.src),
    links: [...document.querySelectorAll('a[href]')].map(a => a.href),
    anchors: [...document.querySelectorAll('[id]')].map(e => e.id),
    unset: [...document.querySelectorAll('.math')].filter(e => !e.querySelector('mjx-container')).length,
    heading: (document.querySelector('h1') || {}).innerText || '',
})"""


def visit(page, address: str) -> tuple[dict, list[str]]:
    """Open a page; returns facts about it, and what went wrong while it loaded."""
    wrong: list[str] = []
    def on_error(error):
        wrong.append(f"script: {error}")

    def on_response(response):
        if response.status >= 400:
            wrong.append(f"{response.status}: {response.url}")

    page.on("pageerror", on_error)
    page.on("response", on_response)
    try:
        page.goto(address, wait_until="load")
        # Pictures below the fold load when they come into view.
        page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
        page.wait_for_function("[...document.images].every(i => i.complete)", timeout=10_000)
        if page.query_selector(".math"):
            page.wait_for_function("document.querySelectorAll('.math').length"
                                   " === document.querySelectorAll('.math mjx-container').length", timeout=20_000)
        return page.evaluate(FACTS), wrong
    finally:
        page.remove_listener("pageerror", on_error)
        page.remove_listener("response", on_response)


def check_pages(page, root: str, names: list[str], screen: str) -> tuple[list[str], dict[str, dict]]:
    faults, seen = [], {}
    for name in names:
        facts, wrong = visit(page, root + name)
        faults += [f"{name} on a {screen}: {what}" for what in wrong]
        faults += [f"{name} on a {screen}: picture missing: {source}" for source in facts["broken"]]
        if facts["width"] > SCREENS[screen][0]:
            faults.append(f"{name} on a {screen}: {facts['width']} pixels wide, the {screen} has {SCREENS[screen][0]}")
        if facts["unset"]:
            faults.append(f"{name} on a {screen}: {facts['unset']} formulas are not set")
        if not facts["heading"]:
            faults.append(f"{name} on a {screen}: no heading")
        seen[name] = facts
    return faults, seen


def check_links(root: str, site: Path, seen: dict[str, dict]) -> list[str]:
    """Faults of links within the site, each of which must lead to a file and an anchor in it."""
    faults = set()
    for name, facts in seen.items():
        for link in facts["links"]:
            target, anchor = urldefrag(urljoin(root + name, link))
            if not target.startswith(root):
                if urlparse(target).scheme not in ("http", "https", "mailto"):
                    faults.add(f"{name}: strange link {link}")
                continue
            path = unquote(urlparse(target).path).lstrip("/") or "index.html"
            if not (site / path).is_file():
                faults.add(f"{name}: broken link to {path}")
            elif anchor and path in seen and unquote(anchor) not in seen[path]["anchors"]:
                faults.add(f"{name}: no '{anchor}' on {path}")
    return sorted(faults)


def check_search(page, root: str) -> list[str]:
    faults = []
    for word, wanted in SEARCHES.items():
        page.goto(f"{root}search.html?q={word}")
        try:
            page.wait_for_selector(f"#search-results a[href*='{wanted}']", timeout=20_000)
        except Exception:                               # playwright's TimeoutError
            faults.append(f"search for '{word}' does not find {wanted}.html")
    return faults


def main() -> int:
    from playwright.sync_api import sync_playwright
    site = Path(sys.argv[1]).resolve()
    names = pages_of(site)
    if not names:
        print(f"check_site: no pages in {site}", file=sys.stderr)
        return 1
    browser_path = os.environ.get("CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser_path is None:
        print("check_site: no Chromium found, so the pages were not checked; install it, or set CHROMIUM")
        return 1 if os.environ.get("CI") else 0
    server = serve(site)
    root = f"http://127.0.0.1:{server.server_port}/"
    faults = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=OFFLINE)
        for screen, (width, height) in SCREENS.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            found, seen = check_pages(page, root, names, screen)
            faults += found
            if screen == "screen":
                faults += check_links(root, site, seen) + check_search(page, root)
            page.close()
        browser.close()
    server.shutdown()
    print("\n".join(faults) if faults else f"{len(names)} pages read on {' and '.join(SCREENS)}: no fault")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
