"""`preview` by the real command line: over HTTP, by a click, and by whom it must not answer."""

import base64
import http.client
import io
import json
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from mobilesam_export import Prompt, open_bundle
from mobilesam_export.scenes import scene
from tests.cli_runner import ERROR, MODULE, USAGE, environment, refused, refused_cold

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TIMEOUT_S = 300  # for a server that hangs, on however busy a machine
CLICK = {"points": [{"x": 60, "y": 50, "label": 1}], "box": None}


class Preview:
    """A running `preview`, asked as a browser asks, or as one must not."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.host, _, rest = address.removeprefix("http://").partition("/")
        self.token = rest.strip("/")

    def ask(
        self,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Status, body and headers of an answer; POST with the page's Origin if there is a body."""
        connection = http.client.HTTPConnection(self.host, timeout=TIMEOUT_S)
        own = {} if body is None else {"Origin": f"http://{self.host}"}
        connection.request(
            "GET" if body is None else "POST", path, body, {**own, **(headers or {})}
        )
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content, dict(answer.getheaders())

    def question(self, name: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON of a POST of the page's."""
        status, content, _ = self.ask(f"/{self.token}/{name}", body)
        return status, json.loads(content)


@contextmanager
def previewed(*arguments: object, folder: Path) -> Iterator[Preview]:
    """`mobilesam-export preview` until the end of the block, then ended as by Ctrl-C."""
    with subprocess.Popen(
        [*MODULE, "preview", *map(str, arguments)],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as program:
        assert program.stdout is not None
        line = program.stdout.readline()
        assert line.startswith("Open http://127.0.0.1:"), line
        yield Preview(line.split()[1])
        program.terminate()
        assert program.wait(TIMEOUT_S) == 0


@pytest.fixture(scope="module")
def preview(onnx_demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Preview]:
    """Of an `onnx` bundle of the demo weights, with its golden image."""
    folder = tmp_path_factory.mktemp("preview")
    with previewed(onnx_demo_bundle, folder=folder) as running:
        yield running


def test_both_masks_and_their_iou_are_answered(preview: Preview, onnx_demo_bundle: Path) -> None:
    image = scene(7, 120, 160)
    status, info = preview.question("image", png(image))
    assert (status, info["width"], info["height"]) == (200, 160, 120)
    status, answer = preview.question("segment", json.dumps(CLICK).encode())
    assert status == 200
    assert answer["iou"] >= 0.99
    predictor = open_bundle(onnx_demo_bundle).predictor()
    expected = predictor.predict(Prompt(points=((60, 50, True),)), predictor.embed(image))
    assert answer["bundle"]["score"] == pytest.approx(expected.predicted_iou, abs=1e-5)
    with Image.open(preview_mask(answer["bundle"]["mask"])) as mask:
        assert (np.asarray(mask.getchannel("A")) > 0).tolist() == expected.mask.tolist()


@pytest.mark.parametrize("target", ["coreml", "tflite"])
def test_any_target_that_runs_here_is_shown(
    target: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    bundle = request.getfixturevalue(f"{target}_bundle")
    Image.fromarray(scene(8, 60, 80)).save(tmp_path / "photo.png")
    with previewed(bundle, "photo.png", folder=tmp_path) as running:
        _, content, _ = running.ask(f"/{running.token}/about")
        assert json.loads(content)["title"].startswith(f"{target}, ")
        status, answer = running.question("segment", json.dumps(CLICK).encode())
    assert status == 200
    assert 0 <= answer["iou"] <= 1


def test_pytorch_chooses_the_mask_by_the_bundle_s_rule(
    onnx_sam_bundle: Path, tmp_path: Path
) -> None:
    """SAM's files answer a box alone with the best of three masks, `onnx` with mask 0."""
    Image.fromarray(scene(8, 60, 80)).save(tmp_path / "photo.png")
    with previewed(onnx_sam_bundle, "photo.png", folder=tmp_path) as running:
        box = json.dumps({"points": [], "box": [10, 10, 50, 40]}).encode()
        status, answer = running.question("segment", box)
    assert status == 200
    assert answer["bundle"]["score"] == pytest.approx(answer["pytorch"]["score"], abs=1e-3)
    assert answer["iou"] >= 0.99


def test_a_click_in_the_browser_shows_both_masks(
    onnx_demo_bundle: Path, browser: "Browser", tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    with previewed(onnx_demo_bundle, folder=tmp_path) as running:
        page = browser.new_page()
        page.set_default_timeout(1000 * TIMEOUT_S)
        page.goto(running.address)
        status = page.locator("#status")
        expect(status).to_contain_text("Ready", timeout=1000 * TIMEOUT_S)
        expect(page.locator("#weights")).to_contain_text("generated shapes only")
        page.locator("#pytorch").click()
        expect(status).to_contain_text("IoU of the two masks: 1.0000", timeout=1000 * TIMEOUT_S)
        for name in ("bundle", "pytorch"):
            assert "score 0." in page.inner_text(f"#{name}-title")
        page.locator("#bundle").click(modifiers=["Shift"], position={"x": 20, "y": 20})
        expect(status).to_contain_text("IoU of the two masks", timeout=1000 * TIMEOUT_S)
        page.set_input_files("#file", onnx_demo_bundle / "manifest.json")
        expect(status).to_contain_text("not an image", timeout=1000 * TIMEOUT_S)
        page.close()


@pytest.mark.parametrize(
    "path", ["/", "/about", "/wrong/", "/wrong/about", "/{token}x/", "/{token}/../{token}x/"]
)
def test_without_the_token_nothing_is_served(path: str, preview: Preview) -> None:
    status, content, _ = preview.ask(path.format(token=preview.token))
    assert (status, content) == (404, b"Not Found")


@pytest.mark.parametrize(
    "path",
    [
        "pair.py",
        "page/index.html",
        "..%2Fpair.py",
        "../preview/pair.py",
        "%2e%2e/cli.py",
        "//etc/passwd",
    ],
)
def test_no_file_but_the_page_s_own_is_served(path: str, preview: Preview) -> None:
    assert preview.ask(f"/{preview.token}/{path}")[0] == 404


@pytest.mark.parametrize("name", ["", "preview.js", "view.js", "style.css"])
def test_the_page_s_files_forbid_other_origins(name: str, preview: Preview) -> None:
    status, _, headers = preview.ask(f"/{preview.token}/{name}")
    found = {key.lower(): value for key, value in headers.items()}
    assert status == 200
    assert "default-src 'self'" in found["content-security-policy"]
    assert found["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in found


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost", "127.0.0.1.evil.example"]
)
def test_a_foreign_name_for_this_machine_is_refused(host: str, preview: Preview) -> None:
    """DNS rebinding: a page of evil.example whose name has come to mean 127.0.0.1."""
    assert preview.ask(f"/{preview.token}/about", headers={"Host": host})[0] == 400


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", ""])
@pytest.mark.parametrize("name", ["image", "segment"])
def test_a_page_of_another_origin_is_not_answered(name: str, origin: str, preview: Preview) -> None:
    body = json.dumps(CLICK).encode()
    status, _, _ = preview.ask(f"/{preview.token}/{name}", body, {"Origin": origin})
    assert status == 403


WRONG = {
    "no image": ("image", b"no image", "the image is not an image of a known format"),
    "half an image": ("image", b"\x89PNG\r\n\x1a\n\0\0", "the image is not an image"),
    "no JSON": ("segment", b"{", "that is no prompt: not JSON"),
    "no points": ("segment", b'{"box": null}', "that is no prompt (KeyError: 'points')"),
    "a list": ("segment", b"[]", "that is no prompt (TypeError"),
    "half a box": ("segment", b'{"points": [], "box": [1, 2]}', "that is no prompt (ValueError"),
    "nothing": ("segment", b'{"points": [], "box": null}', "nothing to segment"),
    "outside": (
        "segment",
        b'{"points": [{"x": 9999, "y": 1, "label": 1}], "box": null}',
        "9999,1 is outside the image",
    ),
    "seven": (
        "segment",
        json.dumps({"points": CLICK["points"] * 7, "box": None}).encode(),  # type: ignore[operator]
        "takes 7 slots",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_words(case: str, preview: Preview) -> None:
    name, body, said = WRONG[case]
    status, answer = preview.question(name, body)
    assert status == 400
    assert answer["error"].startswith(said) or said in answer["error"]
    assert "upload" not in answer["error"]  # the name of our own temporary file


def test_a_busy_port_is_one_line(onnx_demo_bundle: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        arguments = ["preview", onnx_demo_bundle, "--port", port]
        refused(tmp_path, arguments, USAGE, [f"cannot listen on port {port}", "another --port"])


def test_a_broken_image_is_one_line(onnx_demo_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"no image")
    arguments = ["preview", onnx_demo_bundle, "photo.jpg"]
    refused(tmp_path, arguments, ERROR, ["photo.jpg is not an image of a known format"])


def test_a_missing_extra_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which starlette cannot be found."""
    hide = tmp_path / "hide"
    hide.mkdir()
    (hide / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, package=None: "
        "None if name == 'starlette' else find(name, package)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(hide))
    said = ["starlette is not installed", 'pip install "mobilesam-export[preview]"']
    refused_cold(tmp_path, ["preview", "bundle"], ERROR, said)


def png(image: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def preview_mask(url: str) -> io.BytesIO:
    """The file in a data URL."""
    return io.BytesIO(base64.b64decode(url.partition(",")[2]))
