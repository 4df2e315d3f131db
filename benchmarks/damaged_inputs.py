"""Thousands of damaged COCO files, EXIF blocks and image files, read as `evaluate` reads them.

`python -m benchmarks.damaged_inputs` prints counts as JSON, with --save also into
`benchmarks/results/damaged_inputs.json`; exit code 1 if one of the last four of a kind is not 0:

- `evaluated`, `refused`: read, or refused by one clear line;
- `unclear`: a message of several lines, or a result of another size;
- `tracebacks`: any other exception; `signals`: the process died; `ended`: the images whose entries
  are not damaged were not evaluated.

Each kind runs in processes of its own, one input after the other; after a crash, the next process
goes on with the next input. All is seeded: `--first N --coco 1` repeats input N.
"""

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import damage
from mobilesam_export import images
from mobilesam_export.contract import Array, Contract
from mobilesam_export.errors import MobileSamExportError
from mobilesam_export.evaluation import dataset
from mobilesam_export.evaluation.scores import Candidate, Evaluation, Score, evaluate_images
from mobilesam_export.predictor import Predictor
from mobilesam_export.scenes import masked_scene
from mobilesam_export.session import Session
from mobilesam_export.target import load_target

RESULT = Path(__file__).parent / "results" / "damaged_inputs.json"
SEED = 0
LIMIT_S = 60  # of one input
PIXELS = 2_000_000  # the limit on images meanwhile, so that damaged sizes do not fill the memory
BYTES_SHARE = 0.1  # of the COCO files are damaged as bytes and not by entry
FAULTS = ("unclear", "tracebacks", "signals", "ended")


def stub_candidate() -> Candidate:
    """Sessions that answer every prompt with the left half of the image."""

    def encode(inputs: dict[str, Array]) -> dict[str, Array]:
        return {"image_embeddings": np.zeros((1, 256, 16, 16), np.float32)}

    def decode(inputs: dict[str, Array]) -> dict[str, Array]:
        height, width = inputs["orig_im_size"].astype(int)
        logits = np.full((1, 1, height, width), -1, np.float32)
        logits[..., : width // 2] = 1
        low_res = np.zeros((1, 1, 64, 64), np.float32)
        return {"masks": logits, "low_res_masks": low_res, "iou_predictions": np.ones((1, 1))}

    contract = Contract(256, 6, load_target("onnx-sam").graph)
    predictor = Predictor(Session(encode, "stub"), Session(decode, "stub"), contract)
    return Candidate("stub", "", predictor, 0)


def evaluated(data: dataset.Dataset) -> Evaluation:
    """Evaluate with the stub, records by way of JSON as `--save` keeps them."""
    candidate = stub_candidate()
    evaluation = Evaluation({candidate.name: Score()}, problems=list(data.problems))
    for record in evaluate_images([candidate], {}, data, data.names):
        evaluation.add(json.loads(json.dumps({**record, "ms": None})))
    return evaluation


def try_coco(chance: random.Random, folder: Path) -> str:
    """One damaged COCO file of two images, of which one has no damaged entry."""
    for number, name in enumerate((damage.DAMAGED, damage.CONTROL), start=1):
        if not (folder / name).exists():
            scene = masked_scene(number, damage.HEIGHT, damage.WIDTH)
            Image.fromarray(scene.image).save(folder / name)
    by_entry = chance.random() >= BYTES_SHARE
    if by_entry:
        content = damage.damaged_entries(chance)
    else:
        content = damage.damaged_bytes(json.dumps(damage.coco_table()).encode(), chance)
    path = folder / "instances.json"
    path.write_bytes(content)
    try:
        data = dataset.coco(folder, path)
        evaluation = evaluated(data)
    except MobileSamExportError as exc:
        return "ended" if by_entry else clear(str(exc))
    if by_entry:
        control = data.read(damage.CONTROL)
        if control.skipped or control.masks is None or len(control.masks) < damage.ANNOTATIONS:
            return "ended"
    return "evaluated" if all(map(is_line, evaluation.problems)) else "unclear"


def try_image(make: Callable[[random.Random], tuple[bytes, str]]) -> "Trial":
    """A trial of one damaged image file."""

    def run(chance: random.Random, folder: Path) -> str:
        content, suffix = make(chance)
        path = folder / f"damaged{suffix}"
        path.write_bytes(content)
        try:
            pixels = images.read_image(path).pixels
        except MobileSamExportError as exc:
            return clear(str(exc))
        right = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8
        return "evaluated" if right and pixels.size else "unclear"

    return run


def is_line(message: str) -> bool:
    """Whether a message is one line that a terminal can print."""
    return message.isprintable() and len(message) < 1000


def clear(message: str) -> str:
    """The outcome of a refusal."""
    return "refused" if is_line(message) else "unclear"


Trial = Callable[[random.Random, Path], str]
TRIALS: dict[str, Trial] = {
    "coco": try_coco,
    "exif": try_image(damage.exif_image),
    "files": try_image(damage.image_file),
}


def worker(kind: str, numbers: Sequence[int], sent: Connection) -> None:
    """Send the number and the outcome of each input."""
    images.MAX_PIXELS = PIXELS
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            chance = random.Random(f"{SEED} {kind} {number}")  # noqa: S311 - damage, no secret
            try:
                outcome = TRIALS[kind](chance, Path(folder))
            except Exception:  # noqa: BLE001 - they are what is counted
                traceback.print_exc()
                outcome = "tracebacks"
            sent.send((number, outcome))


def count(kind: str, numbers: range) -> dict[str, int]:
    """Outcomes of these inputs."""
    outcomes: Counter[str] = Counter(dict.fromkeys(("evaluated", "refused", *FAULTS), 0))
    context = multiprocessing.get_context("fork")
    left = list(numbers)
    while left:
        received, sent = context.Pipe(duplex=False)
        process = context.Process(target=worker, args=(kind, left, sent))
        process.start()
        sent.close()
        while left:
            try:
                number, outcome = received.recv() if received.poll(LIMIT_S) else (left[0], "")
            except EOFError:
                number, outcome = left[0], ""
            left.remove(number)
            outcomes[outcome or "signals"] += 1
            if outcome in ("", *FAULTS):
                print(f"{kind} {number}: {outcome or 'died or hangs'}", file=sys.stderr)
            if not outcome:
                process.kill()
                break
        process.join()
    return dict(outcomes)


def main() -> None:
    parser = argparse.ArgumentParser()
    for kind, default in (("coco", 2_000), ("exif", 10_000), ("files", 2_000)):
        parser.add_argument(f"--{kind}", type=int, default=default)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    counts = {
        kind: count(kind, range(options.first, options.first + getattr(options, kind)))
        for kind in TRIALS
    }
    print(json.dumps(counts, indent=2))
    if options.save:
        result = {"seed": SEED, "first": options.first, "outcomes": counts}
        RESULT.write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(any(counts[kind][fault] for kind in counts for fault in FAULTS))


if __name__ == "__main__":
    main()
