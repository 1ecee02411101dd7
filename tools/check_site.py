"""Check the built site in a browser: tools/check_site.py build/html [--pictures FOLDER]

Every page is opened in headless Chromium, at the size of a screen and of a phone. The checks: the page loads without an
error, pictures show, formulas are rendered, links and anchors exist, the page is no wider than the phone, no text is cut
off, no code needs sideways scrolling, and all text has enough contrast, in the light and in the dark theme. The search
must find the right page first. --pictures saves a screenshot of each page. Exit status 0, or 1 with a line for each
fault. Without a browser nothing is checked, which is a failure if the variable CI is set.

Needs playwright (PyPI) and a Chromium or Chrome on PATH, or CHROMIUM set to one.
"""
from __future__ import annotations

import argparse
import contextlib
import functools
import os
import shutil
import sys
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlparse

SCREENS = {"screen": (1280, 900), "phone": (390, 844)}
# {word: page that the search must find}; with "!" the page must be the first result
SEARCHES = {"bounds": "fitting", "leastsq_batch": "batch", "covariance": "errors", "negative": "gallery/plot_2_bounds!",
            "inf": "cookbook/faq!", "weights": "weights!", "fixed": "cookbook/fixed!", "units": "cookbook/units!",
            "outlier": "cookbook/outliers!", "groupby": "cookbook/groupby!"}
OFFLINE = ["--disable-background-networking", "--disable-component-update", "--disable-sync",
           "--no-first-run", "--disable-gpu", "--no-sandbox"]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


class Patient(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """Ignore connections that the browser closes when it opens the next page."""


def serve(site: Path) -> ThreadingHTTPServer:
    server = Patient(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def pages_of(site: Path) -> list[str]:
    """All pages except those that Sphinx makes without text."""
    return sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html")
                  if not path.is_relative_to(site / "_static") and path.name != "search.html")


COLUMNS = 78                    # of the pages' code; tests/package/test_docs.py checks the pages
FACTS = """() => ({
    width: document.documentElement.scrollWidth,
    broken: [...document.images].filter(i => !i.complete || i.naturalWidth === 0).map(i => i.src),
    links: [...document.querySelectorAll('a[href]')].map(a => a.href),
    anchors: [...document.querySelectorAll('[id]')].map(e => e.id),
    unset: [...document.querySelectorAll('.math')].filter(e => !e.querySelector('mjx-container')).length,
    heading: (document.querySelector('h1') || {}).innerText || '',
})"""

# Text that cannot be read as the page stands: cut off by a box that does not scroll, beyond the edge of the screen, or
# code in a box that must be scrolled sideways.
READABLE = """() => {
    const said = e => e.textContent.trim().replace(/\\s+/g, ' ').slice(0, 50);
    const shows = e => e.checkVisibility({checkOpacity: true, checkVisibilityCSS: true}) && e.getClientRects().length;
    const cut = [], sideways = [];
    for (const e of document.querySelectorAll('.bd-content *, .bd-header *, .bd-footer *')) {
        if (!e.textContent.trim() || e.closest('mjx-container, .visually-hidden, .sr-only, svg') || !shows(e)) continue;
        const style = getComputedStyle(e);
        if (/hidden|clip/.test(style.overflowX) && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 1)
            cut.push(e.tagName.toLowerCase() + ': ' + said(e));
    }
    for (const e of document.querySelectorAll(['h1', 'h2', 'h3', 'p', 'dt'].map(tag => '.bd-article ' + tag)))
        if (shows(e) && !e.closest('table') && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline')
            cut.push(e.tagName.toLowerCase() + ' is wider than its box: ' + said(e));
    for (const e of document.querySelectorAll('.bd-article pre'))
        if (shows(e) && e.scrollWidth > e.clientWidth + 1)
            sideways.push(`${e.scrollWidth - e.clientWidth} pixels: ` + said(e));
    // on a screen, code of as many columns as pages may have is not wrapped
    const wide = innerWidth < 1000 ? null : document.querySelector('.bd-article section > div[class*=highlight] pre');
    if (wide && shows(wide)) {
        const probe = wide.appendChild(document.createElement('span'));
        probe.style.cssText = 'position: absolute; white-space: pre; visibility: hidden';
        probe.textContent = 'x'.repeat(COLUMNS);
        const style = getComputedStyle(wide);
        const room = wide.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
        const fit = Math.floor(COLUMNS*room/probe.offsetWidth);
        if (probe.offsetWidth > room + 1) sideways.push(`room for ${fit} columns of COLUMNS`);
        probe.remove();
    }
    // words of a table's cells that a line breaks in the middle
    const torn = [];
    for (const cell of document.querySelectorAll('.bd-article td, .bd-article th')) {
        if (!shows(cell)) continue;
        const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), range = document.createRange();
        while (walker.nextNode())
            for (const word of walker.currentNode.textContent.matchAll(/[\\p{L}\\p{N}.,]+/gu)) {
                range.setStart(walker.currentNode, word.index);
                range.setEnd(walker.currentNode, word.index + word[0].length);
                if (new Set([...range.getClientRects()].map(box => Math.round(box.top))).size > 1) torn.push(word[0]);
            }
    }
    return {cut: [...new Set(cut)], sideways, torn: [...new Set(torn)].slice(0, 5)};
}""".replace("COLUMNS", str(COLUMNS))

# The least contrast that text may have (WCAG 2, AA): 4.5, large text 3.
CONTRAST = """theme => {
    const still = document.head.appendChild(document.createElement('style'));      // no colour on its way to another
    still.textContent = '* { transition: none !important; }';
    document.documentElement.dataset.theme = document.documentElement.dataset.mode = theme;
    const numbers = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length === 3 ? [...n, 1] : n; };
    const over = (top, below) => [0, 1, 2].map(k => top[3]*top[k] + (1 - top[3])*below[k]);
    const light = c => { const [r, g, b] = c.map(v => v/255).map(v => v <= 0.04045 ? v/12.92 : ((v + 0.055)/1.055)**2.4);
                         return 0.2126*r + 0.7152*g + 0.0722*b; };
    const ground = e => {
        const layers = [];
        for (; e; e = e.parentElement) {
            const style = getComputedStyle(e), colour = numbers(style.backgroundColor);
            if (style.backgroundImage !== 'none') return null;
            layers.push(colour);
            if (colour[3] === 1) break;
        }
        return layers.reverse().reduce((below, top) => over(top, below), theme === 'dark' ? [0, 0, 0] : [255, 255, 255]);
    };
    const found = new Map(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const e = walker.currentNode.parentElement, said = walker.currentNode.textContent.trim();
        if (!said || !/\\w/.test(said) || e.closest('script, style, noscript, svg, mjx-container, [disabled]')) continue;
        if (!e.checkVisibility({checkOpacity: true, checkVisibilityCSS: true}) || !e.getClientRects().length) continue;
        const style = getComputedStyle(e), below = ground(e);
        if (!below || style.color.startsWith('color(')) continue;
        const pair = [light(over(numbers(style.color), below)), light(below)].sort((a, b) => a - b);
        const ratio = (pair[1] + 0.05)/(pair[0] + 0.05), size = parseFloat(style.fontSize);
        const large = size >= 24 || size >= 18.66 && Number(style.fontWeight) >= 700;
        const key = style.color + below.map(Math.round);
        if (ratio < (large ? 3 : 4.5) && !found.has(key)) found.set(key, `${ratio.toFixed(1)} of '${said.slice(0, 30)}'`);
    }
    return [...found.values()];
}"""


def visit(page, address: str, patience: int = 20_000) -> tuple[dict, list[str]]:
    """Open a page; return the facts about it, and the faults while it loaded."""
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
            with contextlib.suppress(Exception):        # playwright's TimeoutError: formulas not rendered are counted
                page.wait_for_function("document.querySelectorAll('.math').length"
                                       " === document.querySelectorAll('.math mjx-container').length", timeout=patience)
        return page.evaluate(FACTS) | page.evaluate(READABLE), wrong
    finally:
        page.remove_listener("pageerror", on_error)
        page.remove_listener("response", on_response)


def check_pages(page, root: str, names: list[str], screen: str, pictures: Path | None = None,
                patience: int = 20_000) -> tuple[list[str], dict[str, dict]]:
    faults, seen = [], {}
    for name in names:
        facts, wrong = visit(page, root + name, patience)
        if pictures:
            page.screenshot(path=pictures / f"{name.removesuffix('.html').replace('/', '.')}-{screen}.png", full_page=True)
        faults += [f"{name} on a {screen}: text is cut off: {what}" for what in facts["cut"]]
        faults += [f"{name} on a {screen}: code scrolls sideways: {what}" for what in facts["sideways"]]
        faults += [f"{name} on a {screen}: a word of a table is broken: {word}" for word in facts["torn"]]
        faults += [f"{name} on a {screen}, {theme}: contrast {what}" for theme in ("light", "dark")
                   for what in page.evaluate(CONTRAST, theme)]
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
        link = f"#search-results a[href*='{wanted.removesuffix('!')}']"
        try:
            page.wait_for_selector(link, timeout=20_000)
        except Exception:                               # playwright's TimeoutError
            faults.append(f"search for '{word}' does not find {wanted.removesuffix('!')}.html")
            continue
        if wanted.endswith("!"):
            page.wait_for_timeout(500)                  # results come one after another
            first = page.evaluate("document.querySelector('#search-results a').href")
            if wanted.removesuffix("!") not in first:
                faults.append(f"search for '{word}' finds {urlparse(first).path} before {wanted.removesuffix('!')}.html")
    return faults


# A page with every kind of fault, and the messages it must cause: the checks are tested first.
SPOILED = """<!doctype html>
<html><body style="margin: 0; background: #fff"><div class="bd-content"><div class="bd-article"><section>
<p style="width: 5em; overflow: hidden; white-space: nowrap">A sentence that its box cuts off, for it is long.</p>
<div class="highlight" style="width: 20em"><pre style="overflow: auto">{code}</pre></div>
<table><tr><td style="width: 2em; max-width: 2em; overflow-wrap: anywhere">incomprehensible</td></tr></table>
<p style="color: #bbb">Pale.</p><p style="width: 1500px; background: #eee">Wide.</p><img src="nowhere.png">
<a href="nowhere.html">broken</a> <a href="spoiled.html#nowhere">anchor</a> <span class="math">x</span>
</section></div></div></body></html>""".replace("{code}", "x = 1  # " + "long "*40)
SAID_OF_IT = ("text is cut off: p: A sentence", "code scrolls sideways: room for", "pixels: x = 1",
              "of a table is broken: incomprehensible",
              "contrast 1.",
              "picture missing", "pixels wide, the phone", "formulas are not set", "no heading", "broken link to nowhere.html",
              "no 'nowhere' on spoiled.html", "404: ")


def check_the_checks(browser) -> list[str]:
    """The messages that the page with all faults did not cause."""
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        (site / "spoiled.html").write_text(SPOILED, encoding="utf-8")
        server = serve(site)
        root, found = f"http://127.0.0.1:{server.server_port}/", []
        for screen, (width, height) in SCREENS.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            faults, seen = check_pages(page, root, ["spoiled.html"], screen, patience=500)      # its formula is never set
            found += faults + check_links(root, site, seen)
            page.close()
        server.shutdown()
    return [f"the check of '{words}' does not see a page on which that is wrong" for words in SAID_OF_IT
            if not any(words in fault for fault in found)]


def main() -> int:
    from playwright.sync_api import sync_playwright
    parser = argparse.ArgumentParser(description="Check the built site in a browser.")
    parser.add_argument("site", type=Path, help="the folder that Sphinx built")
    parser.add_argument("--pictures", type=Path, help="a folder, for a screenshot of each page")
    parser.add_argument("--only", default="", help="only pages whose name contains this")
    options = parser.parse_args()
    site = options.site.resolve()
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
    names = [name for name in pages_of(site) if options.only in name]
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
        faults += check_the_checks(browser)
        for screen, (width, height) in SCREENS.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            found, seen = check_pages(page, root, names, screen, options.pictures)
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
