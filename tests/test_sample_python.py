"""The Python sample, as who has nothing but a bundle runs it: no torch and none of our package."""

import json
import shutil
import struct
import subprocess
import sys
import venv
import zlib
from collections.abc import Callable
from importlib.metadata import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilesam_export import Prompt, open_bundle
from mobilesam_export.scenes import scene
from tests.conftest import DEFAULT, RECTANGLE

PACKAGES = ("numpy", "pillow", "onnxruntime", "ai-edge-litert")
PROMPTS = ("click", "clicks", "box", "box-click", "click-mask")


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has `PACKAGES` only."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for package in PACKAGES:
        for name in {file.parts[0] for file in files(package) or ()} - {"..", "__pycache__"}:
            source = next(Path(path, name) for path in sys.path if Path(path, name).exists())
            (site / name).symlink_to(source)
    return folder / "bin" / "python"


def run(
    python: Path, folder: Path, *arguments: str, code: str = ""
) -> subprocess.CompletedProcess[str]:
    """The self-test of the sample in a bundle, or code that imports it."""
    return subprocess.run(
        [str(python), *(["-c", code] if code else ["mobilesam.py"]), *arguments],
        cwd=folder / "sample" / "python",
        env={"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(params=["onnx", "onnx-sam", "tflite:float32", "tflite", "tflite-gpu", "rectangle"])
def bundle(request: pytest.FixtureRequest, export: Callable[..., Path]) -> Path:
    if request.param == "rectangle":
        return export("onnx", *RECTANGLE)
    target, _, recipe = request.param.partition(":")
    return export(target, *DEFAULT, *(("-r", recipe) if recipe else ()))


def test_every_golden_prompt_is_reproduced(bundle: Path, python: Path) -> None:
    done = run(python, bundle)
    said = [line for line in done.stderr.splitlines() if not line.startswith("INFO: ")]  # LiteRT's
    assert (done.returncode, said) == (0, [])
    lines = done.stdout.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == [
        name
        for image in ("landscape", "portrait")
        for name in (image, *(f"{image}/{prompt}" for prompt in PROMPTS))
    ]
    assert all(line.split()[1] == "ok" for line in lines)
    if json.loads((bundle / "manifest.json").read_text())["recipe"]["name"] == "float32":
        assert min(float(line.split()[-1]) for line in lines if "IoU" in line) >= 0.999


@pytest.mark.parametrize("name", ["decoder.onnx", "golden/portrait/image.jpg"])
def test_a_damaged_file_is_one_line_and_exit_code_1(
    name: str, onnx_bundle: Path, python: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(onnx_bundle, tmp_path / "bundle")
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    done = run(python, bundle)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"Error: {bundle / name} is damaged: it is not the file that was exported"
    ]


def test_a_missed_limit_is_exit_code_1(onnx_bundle: Path, python: Path, tmp_path: Path) -> None:
    """A manifest that asks for more than any float32 runtime gives."""
    bundle = shutil.copytree(onnx_bundle, tmp_path / "bundle")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["limits"]["encoder"]["psnr_db"] = 1000
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    done = run(python, bundle)
    assert (done.returncode, done.stderr) == (1, "")
    assert [line.split()[0] for line in done.stdout.splitlines() if "MISSED" in line] == [
        "landscape",
        "portrait",
    ]


def png_header(width: int, height: int) -> bytes:
    """A PNG without its pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    checked = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + checked + b"\0\0\0\0IDAT"


WRONG = """
import numpy, sys
from PIL import Image
from mobilesam import *
sam = MobileSAM()
def check(kind, call, *arguments, **keywords):
    try:
        call(*arguments, **keywords)
    except kind as error:
        assert type(error) is kind, error
        print(error)
        return
    raise AssertionError(kind)
sam.warm_up()
check(NoImageError, sam.segment, [(1, 1, 1)])
check(ImageError, sam.set_image, "mobilesam.py")
check(ImageError, sam.set_image, "absent.png")
check(ImageError, sam.set_image, sys.argv[1])
sam.set_image(Image.new("L", (40, 20)))
check(PromptError, sam.segment)
check(PromptError, sam.segment, [(41, 3, 1)])
check(PromptError, sam.segment, [(1, 1, 2)])
check(PromptError, sam.segment, box=(5, 5, 5, 9))
check(PromptError, sam.segment, [(1, 1, 1)], previous_mask=numpy.zeros((1, 1, 2, 2)))
check(TooManyPointsError, sam.segment, [(1, 1, 1)] * 5, (1, 1, 9, 9))
check(BundleFileError, MobileSAM, "absent")
sam.close()
check(MobileSAMError, sam.set_image, Image.new("L", (4, 4)))
"""


def test_wrong_use_raises_typed_errors_in_words(
    onnx_bundle: Path, python: Path, tmp_path: Path
) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(png_header(20_000, 20_000))
    done = run(python, onnx_bundle, str(large), code=WRONG)
    assert done.returncode == 0, done.stderr
    assert f"image {large} is damaged or too large" in done.stdout
    assert "7 points, a box counting as two; this decoder takes 6" in done.stdout
    assert "41,3 is outside the image, which is 40 x 20" in done.stdout


def test_masks_are_those_of_the_command_line(
    onnx_demo_bundle: Path, python: Path, tmp_path: Path
) -> None:
    """On an image and a prompt that are not golden."""
    image = scene(71, 150, 333)
    Image.fromarray(image).save(tmp_path / "image.png")
    predictor = open_bundle(onnx_demo_bundle).predictor()
    prompt = Prompt(points=((200.5, 71.0, True), (12.0, 9.0, False)), box=(150, 20, 280, 140))
    expected = predictor.predict(prompt, predictor.embed(image))
    code = (
        "import sys; from PIL import Image; from mobilesam import MobileSAM; sam = MobileSAM()\n"
        "sam.set_image(sys.argv[1])\n"
        "result = sam.segment([(200.5, 71, 1), (12, 9, 0)], (150, 20, 280, 140))\n"
        "Image.fromarray(result.mask).save(sys.argv[2]); print(result.score)"
    )
    done = run(
        python,
        onnx_demo_bundle,
        str(tmp_path / "image.png"),
        str(tmp_path / "mask.png"),
        code=code,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(expected.predicted_iou, abs=1e-5)
    assert (np.asarray(Image.open(tmp_path / "mask.png")) == expected.mask).all()
