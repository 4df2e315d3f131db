"""Run samexporter's own inference client, unchanged, on an `onnx-sam` bundle.

`python -m benchmarks.samexporter_client` installs samexporter from PyPI into an environment of
its own under build/, exports `onnx-sam -c seeded`, lets the client segment a 1024 x 684
photograph at one click, and compares its mask with `mobilesam-export segment`. It writes
`benchmarks/results/samexporter_client.json`.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.photograph import photograph
from mobilesam_export.metrics import mask_iou

RESULT = Path(__file__).parent / "results" / "samexporter_client.json"
BUILD = Path("build") / "samexporter"
# 0.4.6 scales every image to 1024 x 684, lets the graph upscale, and hands colors on in the
# order in which it gets them: its own command line reads BGR by OpenCV and so swaps red and blue,
# and SAM wants RGB. 0.5.0 does everything itself and expects OpenCV's BGR.
CLIENTS = {"samexporter==0.4.6": "RGB", "samexporter==0.5.0": "BGR"}
# What its inference needs; its own list pins torch and torchvision, which only its exporters use.
NEEDS = ("onnxruntime", "opencv-python-headless<5", "numpy<3", "pillow", "ftfy", "regex")
# The client only draws. Its class gives the mask itself, with the same two calls as its main().
ASK = """
import json, sys, cv2, numpy, samexporter.sam_onnx
encoder, decoder, image, prompt, order, out = sys.argv[1:]
model = samexporter.sam_onnx.SegmentAnythingONNX(encoder, decoder)
image = cv2.imread(image)
embedding = model.encode(image if order == "BGR" else image[:, :, ::-1].copy())
masks = model.predict_masks(embedding, json.load(open(prompt)))
numpy.save(out, masks)
"""


def main() -> None:
    """Install, export, run both, compare, write, print."""
    BUILD.mkdir(parents=True, exist_ok=True)
    bundle, photo, prompt = BUILD / "bundle", BUILD / "photo.png", BUILD / "prompt.json"
    photograph("coffee", (1024, 684)).save(photo)
    x, y = 400, 330
    prompt.write_text(json.dumps([{"type": "point", "data": [x, y], "label": 1}]))
    ours = [sys.executable, "-m", "mobilesam_export"]
    _run([*ours, "onnx-sam", "-c", "seeded", "-o", str(bundle)])
    mask_path = BUILD / "ours.png"
    _run([*ours, "segment", str(bundle), str(photo), "--point", f"{x},{y}", "-o", str(mask_path)])
    found = np.asarray(Image.open(mask_path)) > 0
    files = [str(bundle / "encoder.onnx"), str(bundle / "decoder.onnx")]
    result = {
        "image": "coffee of scikit-image, 1024 x 684",
        "click": [x, y],
        "share_of_the_image": round(float(found.mean()), 4),
        "mask_iou": {
            client: round(mask_iou(_ask(client, [*files, str(photo), str(prompt)]), found), 6)
            for client in CLIENTS
        },
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def _ask(client: str, arguments: list[str]) -> NDArray[np.bool_]:
    """The client's mask, after its own command line has drawn it too."""
    python = _environment(client)
    drawn, raw = BUILD / f"{client}.png", BUILD / f"{client}.npy"
    names = ("--encoder_model", "--decoder_model", "--image", "--prompt", "--output")
    options = [part for pair in zip(names, [*arguments, str(drawn)], strict=True) for part in pair]
    _run([str(python), "-m", "samexporter.inference", *options])
    _run([str(python), "-c", ASK, *arguments, CLIENTS[client], str(raw)])
    mask: NDArray[np.bool_] = np.load(raw)[0, 0] > 0
    return mask


def _environment(client: str) -> Path:
    folder = BUILD / f"venv-{client}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", client])
        _run([str(python), "-m", "pip", "install", "--quiet", *NEEDS])
        (folder / "ready").touch()
    return python


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
