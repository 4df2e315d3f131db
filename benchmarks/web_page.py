"""The web page of an `onnx` bundle in headless Chromium: is its main thread ever blocked?

`python -m benchmarks.web_page BUNDLE [--save]` uses the page as a person does and asks the browser
for tasks of 50 ms and longer (the Long Tasks API) on the main thread. The page has to answer within
`LIMIT_MS` at any time. It needs a Chromium on PATH, and onnxruntime-web beside the page
(`npm install` in the bundle's sample/web, as `make demo` does).
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from PIL import Image

from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.scenes import scene

if TYPE_CHECKING:
    from playwright.sync_api import Page

RESULT = Path(__file__).parent / "results" / "web_page.json"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LIMIT_MS = 100
CONTROL_MS = 200  # a deliberate block, which has to be seen
TIMEOUT_MS = 600_000
PHOTOGRAPH = (4000, 3000)  # pixels, as phones take them
SEED = 30_000  # of a scene that nothing is trained or tuned on
WATCH = """
window.blocked = [];
new PerformanceObserver((list) => {
  for (const { duration } of list.getEntries()) window.blocked.push(duration);
}).observe({ type: "longtask", buffered: true });
"""
# Entries come when the thread is idle again.
TAKE = "new Promise((done) => setTimeout(() => done(window.blocked.splice(0)), 300))"
BLOCK = """(ms) => new Promise((done) => setTimeout(() => {
  const end = performance.now() + ms;
  while (performance.now() < end);
  done();
}))"""
ENCODED = re.compile(r"encoded in ([\d.]+) s \((.*)\)")
ANSWERED = re.compile(r"([\d.]+) ms")


@contextmanager
def opened_page(bundle: Path) -> Iterator["Page"]:
    """A blank page with the observer, and the bundle's own server as its base address."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise click.ClickException(f"no browser on PATH ({', '.join(BROWSERS)})")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # root has none
    server = [sys.executable, str(bundle / "sample" / "web" / "serve.py"), "0"]
    with subprocess.Popen(server, stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout is not None  # noqa: S101 for mypy
            address = serving.stdout.readline().split()[1]
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=program, args=sandbox)
                page = browser.new_page(base_url=address, viewport={"width": 1280, "height": 900})
                page.set_default_timeout(TIMEOUT_MS)
                page.add_init_script(WATCH)
                yield page
                browser.close()
        finally:
            serving.terminate()


def said(page: "Page", text: str) -> str:
    """Wait for what the page says next, and give it in full."""
    page.wait_for_function(
        "(text) => document.querySelector('#status').innerText.match(text)", arg=text
    )
    return page.inner_text("#status")


def place(page: "Page", across: float, down: float) -> tuple[float, float]:
    """CSS pixels of the page at a share of the canvas's width and height."""
    canvas = page.locator("#canvas").bounding_box()
    assert canvas is not None  # noqa: S101 for mypy
    return canvas["x"] + across * canvas["width"], canvas["y"] + down * canvas["height"]


def draw_box(page: "Page") -> None:
    page.mouse.move(*place(page, 0.2, 0.2))
    page.mouse.down()
    page.mouse.move(*place(page, 0.7, 0.7), steps=40)
    page.mouse.up()


def save(page: "Page", button: str) -> None:
    with page.expect_download() as download:
        page.click(button)
    download.value.path()


def measure(page: "Page", photograph: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """Use the page.

    Returns:
        What the page says of its speed, and by what was done the longest task of the main thread in
        ms, 0 where none took 50.
    """
    longest: dict[str, float] = {}

    def step(name: str, action: Callable[[], object], text: str = "") -> str:
        action()
        words = said(page, text) if text else ""
        longest[name] = round(max(page.evaluate(TAKE), default=0.0), 1)
        return words

    start = time.perf_counter()
    page.goto("")
    said(page, "Ready")
    loaded = time.perf_counter() - start
    page.mouse.click(*place(page, 0.5, 0.5))
    words = step("load, and the first mask", lambda: None, "Score")
    first_mask = time.perf_counter() - start
    encoded = step(
        "open a photograph of 12 megapixels",
        lambda: page.set_input_files("#file", photograph),
        f"Ready: {PHOTOGRAPH[0]}",
    )
    answered = step("click", lambda: page.mouse.click(*place(page, 0.5, 0.5)), "Score")
    step("drag a box", lambda: draw_box(page), "Score")
    page.wait_for_selector("#mask:enabled")
    step("save the mask", lambda: save(page, "#mask"))
    step("save the cut-out", lambda: save(page, "#cutout"))
    step("self-test", lambda: page.click("#selftest"), "Self-test passed")
    page.evaluate(BLOCK, CONTROL_MS)
    if max(page.evaluate(TAKE), default=0.0) < CONTROL_MS:
        raise click.ClickException("this browser reports no long tasks: nothing was measured")
    encode = ENCODED.search(encoded)
    mask = ANSWERED.search(answered)
    first = ANSWERED.search(words)
    assert encode and mask and first  # noqa: S101, PT018 what the page always says
    seconds = {
        "load": round(loaded, 1),
        "first_mask": round(first_mask, 1),
        "image": float(encode[1]),
        "mask": float(mask[1]) / 1000,
    }
    return {"device": encode[2], "seconds": seconds}, longest


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--save", "keep", is_flag=True, help=f"Write {RESULT.name}.")
def main(bundle: Path, keep: bool) -> None:
    """Measure the page of a bundle; exit code 3 if its main thread was blocked."""
    opened = open_bundle(bundle)
    with tempfile.TemporaryDirectory() as folder, opened_page(bundle) as page:
        photograph = Path(folder, "photograph.jpg")
        image = Image.fromarray(scene(SEED, PHOTOGRAPH[1] // 4, PHOTOGRAPH[0] // 4))
        image.resize(PHOTOGRAPH, Image.Resampling.BILINEAR).save(photograph, quality=90)
        speed, longest = measure(page, photograph)
        browser = page.context.browser
        result = {
            "bundle": f"{opened.target}, {opened.recipe_name}",
            "image_size": opened.contract.image_size,
            "browser": f"Chromium {browser.version if browser else ''}",
            **speed,
            "longest_task_ms": longest,
        }
    click.echo(json.dumps(result, indent=2))
    if keep:
        RESULT.write_text(json.dumps(result, indent=2) + "\n")
    if max(longest.values()) > LIMIT_MS:
        sys.exit(3)


if __name__ == "__main__":
    main()
