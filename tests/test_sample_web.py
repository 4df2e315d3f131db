"""The web sample in a real browser: golden vectors, a mouse, and what goes wrong in words."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mobilesam_export import Prompt, open_bundle
from mobilesam_export.metrics import mask_iou
from tests.conftest import WEIGHTS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TIMEOUT_MS = 300_000  # for a page that hangs, on however busy a machine
SAMPLE = Path("sample", "web")
# Counts how often the page's main thread is free while its worker computes.
TICKS = "window.ticks = 0; setInterval(() => { window.ticks++; }, 10)"
# Keeps all that the page says, over reloads, too.
LISTEN = """new MutationObserver(() => {
    const text = document.querySelector("#status")?.textContent;
    sessionStorage.said = `${sessionStorage.said ?? ""}${text}\n`;
}).observe(document, { subtree: true, childList: true, characterData: true })"""


@contextmanager
def served(bundle: Path) -> Iterator[str]:
    """The address of the sample's page, from the sample's own server."""
    command = [sys.executable, str(bundle / SAMPLE / "serve.py"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().split()[1]
        server.terminate()


def copied(bundle: Path, folder: Path, node_modules: Path) -> Path:
    """The same bundle with onnxruntime-web installed in it; its files are hard links."""
    left_out = shutil.ignore_patterns("node_modules")
    shutil.copytree(bundle, folder, copy_function=os.link, ignore=left_out)
    (folder / SAMPLE / "node_modules").symlink_to(node_modules)
    return folder


@pytest.fixture(scope="module")
def bundle(
    onnx_demo_bundle: Path, node_modules: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return copied(onnx_demo_bundle, tmp_path_factory.mktemp("web") / "bundle", node_modules)


@pytest.fixture(scope="module")
def loaded(browser: "Browser", bundle: Path) -> Iterator["Page"]:
    """The page with the first golden image, two canvas pixels to a CSS pixel."""
    context = browser.new_context(viewport={"width": 700, "height": 500}, device_scale_factor=2)
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    page.add_init_script(LISTEN)
    with served(bundle) as address:
        page.goto(address)
        wait_for(page, "Ready")
        yield page
    context.close()


@pytest.fixture
def page(loaded: "Page") -> "Page":
    """The same, as freshly loaded: image encoded, no prompt."""
    loaded.click("#clear")
    wait_for(loaded, "Click on something")
    return loaded


def wait_for(page: "Page", text: str) -> str:
    """Wait for what the page says next, and give it in full."""
    from playwright.sync_api import expect

    expect(page.locator("#status")).to_contain_text(re.compile(text), timeout=TIMEOUT_MS)
    return page.inner_text("#status")


def place(page: "Page", x: float, y: float) -> tuple[float, float]:
    """CSS pixels of the page at a pixel of the golden image."""
    canvas = page.locator("#canvas").bounding_box()
    assert canvas is not None
    width, height = golden_size(page)
    return canvas["x"] + x * canvas["width"] / width, canvas["y"] + y * canvas["height"] / height


def golden_size(page: "Page") -> tuple[int, int]:
    shown = page.evaluate("fetch('../../golden/golden.json').then((answer) => answer.json())")
    return shown["images"][0]["width"], shown["images"][0]["height"]


def saved(page: "Page", button: str, path: Path) -> NDArray[np.uint8]:
    with page.expect_download() as download:
        page.click(button)
    download.value.save_as(path)
    return np.asarray(Image.open(path))


def test_a_click_of_the_mouse_gives_pytorch_s_mask(
    page: "Page", bundle: Path, tmp_path: Path
) -> None:
    golden = json.loads((bundle / "golden" / "golden.json").read_text())["images"][0]
    (x, y, _), *_ = golden["prompts"][0]["points"]
    page.mouse.click(*place(page, x, y))
    wait_for(page, "Score")
    mask = saved(page, "#mask", tmp_path / "mask.png")
    cutout = saved(page, "#cutout", tmp_path / "cutout.png")
    expected = np.asarray(Image.open(bundle / "golden" / golden["prompts"][0]["mask"]))
    assert mask_iou(mask[..., 0] > 0, expected) >= 0.999
    assert (cutout[..., 3] == mask[..., 0]).all()
    image = np.asarray(Image.open(bundle / "golden" / golden["file"]))
    inside = mask[..., 0] > 0
    assert (cutout[inside][:, :3] == image[inside]).all()


def test_a_box_and_a_background_click_are_those_of_the_python_api(
    page: "Page", bundle: Path, tmp_path: Path
) -> None:
    corners = (70.0, 40.0), (160.0, 120.0)
    page.mouse.move(*place(page, *corners[0]))
    page.mouse.down()
    page.mouse.move(*place(page, *corners[1]), steps=3)
    page.mouse.up()
    wait_for(page, "Score")
    page.keyboard.down("Shift")
    page.mouse.click(*place(page, 100, 60))
    page.keyboard.up("Shift")
    wait_for(page, "Score")
    page.wait_for_selector("#mask:enabled")
    mask = saved(page, "#mask", tmp_path / "mask.png")
    predictor = open_bundle(bundle).predictor()
    image = predictor.embed(bundle / "golden" / "landscape" / "image.png")
    prompt = Prompt(points=((100, 60, False),), box=(*corners[0], *corners[1]))
    assert mask_iou(mask[..., 0] > 0, predictor.predict(prompt, image).mask) >= 0.99


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"source": "demo", "trained": True}, "generated shapes only"),
        ({"source": WEIGHTS, "trained": False}, "not trained"),
        ({"source": "official", "trained": True}, ""),
    ],
)
def test_weights_for_trials_are_named_as_such(
    weights: dict[str, Any], said: str, page: "Page"
) -> None:
    assert "generated shapes only" in page.inner_text("#weights")  # of this bundle
    script = """(weights) => import("./view.js").then(({ showWeights }) => {
        const place = document.createElement("p");
        showWeights(place, weights);
        return place;
    }).then(({ textContent, hidden }) => [textContent, hidden])"""
    text, hidden = page.evaluate(script, weights)
    assert said in text
    assert hidden == (text == "") == (said == "")


def test_a_seventh_point_is_refused_in_words_and_the_mask_stays(page: "Page") -> None:
    for i in range(7):  # faster than they are answered
        page.mouse.click(*place(page, 80 + 5 * i, 60))
    said = wait_for(page, "takes 6 points")
    page.wait_for_selector("#mask:enabled")  # of the first six
    assert said == "This model takes 6 points, a box counting as two: undo one first."
    page.keyboard.press("Control+z")
    wait_for(page, "Score")


def test_a_click_beside_the_image_is_said_to_be_outside(page: "Page") -> None:
    page.set_viewport_size({"width": 1100, "height": 400})  # wider than the image
    x, y = place(page, 0, 20)
    page.mouse.click(x - 20, y)
    wait_for(page, "That click is outside the image")
    page.set_viewport_size({"width": 700, "height": 500})


def test_what_is_no_image_is_said_to_be_none(page: "Page", bundle: Path) -> None:
    page.set_input_files("#file", bundle / "manifest.json")
    wait_for(page, "not an image that this browser can read")


def test_a_dropped_image_is_encoded(page: "Page") -> None:
    page.evaluate(
        """async () => {
            const canvas = new OffscreenCanvas(90, 60);
            canvas.getContext("2d").fillRect(10, 10, 40, 30);
            const transfer = new DataTransfer();
            transfer.items.add(new File([await canvas.convertToBlob()], "a.png"));
            document.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer }));
        }"""
    )
    wait_for(page, "Ready: 90 x 60")
    page.reload()
    wait_for(page, "Ready: [^9]")


def test_the_first_visit_says_how_far_the_download_is(loaded: "Page", bundle: Path) -> None:
    said = loaded.evaluate("sessionStorage.said").partition("Ready")[0]
    files = [bundle / "encoder.onnx", bundle / "decoder.onnx"]
    size = sum(path.stat().st_size for path in files) / 1e6
    done = [float(part) for part in re.findall(rf": ([\d.]+) of {size:.1f} MB", said)]
    assert len(done) > 2
    assert done == sorted(done)


def test_a_second_visit_downloads_no_model(page: "Page") -> None:
    page.reload()
    wait_for(page, "Ready")
    fetched = page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
    kept = page.evaluate(
        "caches.open('mobilesam').then((c) => c.keys()).then((keys) => keys.map((k) => k.url))"
    )
    assert sorted(Path(url.split("?")[0]).name for url in kept)[:2] == [
        "decoder.onnx",
        "encoder.onnx",
    ]
    assert not [name for name in fetched if name.endswith(".onnx")]


def test_warming_up_is_no_image(page: "Page") -> None:
    said = page.evaluate(
        """async () => {
            const { MobileSAM } = await import("./mobilesam.js");
            const sam = await MobileSAM.load();
            await sam.warmUp();
            const answer = sam.segment({ points: [{ x: 1, y: 1 }] });
            return answer.catch(({ code }) => code).finally(() => sam.close());
        }"""
    )
    assert said == "no-image"


def test_the_self_test_reproduces_golden_and_leaves_the_page_free(loaded: "Page") -> None:
    """Both images, one of them a large JPEG that EXIF rotates; last, as it forgets the image."""
    loaded.evaluate(TICKS)
    loaded.click("#selftest")
    assert wait_for(loaded, "Self-test") == "Self-test passed. Open an image to go on."
    # Seconds of computing; a main thread that does it itself would count next to nothing.
    assert loaded.evaluate("ticks") > 50
    rows = loaded.locator("#checks tr").all_inner_texts()
    assert len(rows) == 12
    assert min(float(row.split()[-1]) for row in rows if "IoU" in row) >= 0.999
    assert all(re.search(r"input at most [0-8]/255 off, 0\.[0-4]", r) for r in (rows[0], rows[6]))


def remove(path: Path) -> None:
    path.unlink()


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()  # the hard link, not the bundle's file
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "said"),
    [(remove, "encoder.onnx is missing from the bundle"), (damage, "encoder.onnx is damaged")],
)
def test_a_missing_or_damaged_file_is_named(
    change: Callable[[Path], None],
    said: str,
    browser: "Browser",
    bundle: Path,
    node_modules: Path,
    tmp_path: Path,
) -> None:
    broken = copied(bundle, tmp_path / "broken", node_modules)
    change(broken / "encoder.onnx")
    with served(broken) as address:
        assert first_words(browser, address).startswith(said)


def test_a_page_opened_as_a_file_says_how_to_serve_it(browser: "Browser", bundle: Path) -> None:
    said = first_words(browser, (bundle / SAMPLE / "index.html").as_uri())
    assert "run python3 serve.py" in said


def test_a_browser_without_simd_is_said_to_be_too_old(browser: "Browser", bundle: Path) -> None:
    with served(bundle) as address:
        said = first_words(browser, address, "WebAssembly.validate = () => false")
    assert said == "This browser has no WebAssembly SIMD, which the model needs: use a newer one."


def first_words(browser: "Browser", address: str, script: str = "") -> str:
    """What a fresh visitor is told in red."""
    page = browser.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    page.add_init_script(script)
    page.goto(address)
    page.wait_for_selector("#status.error")
    said = page.inner_text("#status")
    page.close()
    return said
