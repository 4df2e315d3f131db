"""Images -> samples that static recipes find the ranges of activations on, for every backend.

The images are a folder of the user's or generated scenes; which, how many and their hash go into
the manifest. Nothing depends on chance but by a fixed seed.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mobilesam_export import prompts
from mobilesam_export.contract import Array
from mobilesam_export.contract.frame import Frame
from mobilesam_export.errors import ImageError
from mobilesam_export.images import SUFFIXES, LoadedImage, read_image
from mobilesam_export.predictor import Predictor
from mobilesam_export.progress import note
from mobilesam_export.prompts import ImageArray, Prompt
from mobilesam_export.scenes import scene, shape

MIN_IMAGES = 4  # below that a range is that of a few objects, not of what a camera sees
MAX_IMAGES = 32  # of a larger folder so many are chosen, by the seed
GENERATED = 8
SEED = 20_000  # far from the seeds of scenes that files are verified or evaluated on
CONSTANT_STD = 1.0  # bytes; a lens cap has more noise

Samples = tuple[Mapping[str, Array], ...]


@dataclass(frozen=True)
class Calibration:
    """Samples, and what the manifest says of them.

    Attributes:
        source: "generated scenes", or the name of the user's folder.
        images: how many.
        sha256: of the decoded images in order, each with its height and width.
        samples: by the name of the graph, inputs in the contract's form. Of the encoder one per
            image; of the decoder several prompts per image, on the reference's embedding.
    """

    source: str
    images: int
    sha256: str
    samples: Mapping[str, Samples]

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "source": self.source,
            "images": self.images,
            "sha256": self.sha256,
            "seed": SEED,
            "samples": {graph: len(found) for graph, found in self.samples.items()},
        }


def find_images(folder: Path) -> list[Path]:
    """Files of a folder that are named as images are, at most MAX_IMAGES of them.

    Raises:
        ImageError: there is no such folder, or it has fewer than MIN_IMAGES.
    """
    readable = {end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    known = readable.union(SUFFIXES)
    try:
        if not folder.is_dir():
            raise ImageError(f"--calibration {folder} is not a folder; give one with images")
        named = sorted(path for path in folder.iterdir() if path.suffix.lower() in known)
    except OSError as exc:
        raise ImageError(f"cannot read --calibration {folder}: {exc.strerror}") from exc
    if len(named) < MIN_IMAGES:
        raise ImageError(
            f"--calibration {folder} has {_count(len(named))}; expected at least {MIN_IMAGES} "
            "(.jpg, .png, ...) of what the app will see"
        )
    chosen = np.random.default_rng(SEED).permutation(len(named))[:MAX_IMAGES]
    return [named[index] for index in sorted(chosen)]


def collect(folder: Path | None, predictor: Predictor) -> Calibration:
    """Read or generate images and make the samples of both graphs.

    Args:
        folder: of images, or None for generated scenes.
        predictor: the float32 reference, with the contract of the files to be calibrated.

    Images that cannot be read or are of one color are left out, and named on stderr.

    Raises:
        ImageError: fewer than MIN_IMAGES are left, or differ from each other.
    """
    size = predictor.contract.size
    images = _generated(size) if folder is None else _read(folder)
    random = np.random.default_rng(SEED)
    encoder_samples: list[Mapping[str, Array]] = []
    decoder_samples: list[Mapping[str, Array]] = []
    hashes: list[bytes] = []
    for image in images:
        hashes.append(_hash(image))
        encoder_samples.append(prompts.encoder_inputs(image, predictor.contract))
        decoder_samples += _decoder_samples(image, predictor, random)
    if (different := len(set(hashes))) < MIN_IMAGES:
        raise ImageError(
            f"--calibration {folder}: only {different} of its images differ from each other; "
            f"expected at least {MIN_IMAGES}"
        )
    return Calibration(
        source="generated scenes" if folder is None else folder.resolve().name,
        images=len(hashes),
        sha256=hashlib.sha256(b"".join(hashes)).hexdigest(),
        samples={"encoder": tuple(encoder_samples), "decoder": tuple(decoder_samples)},
    )


def _generated(size: Frame) -> Iterator[ImageArray]:
    for number in range(GENERATED):
        yield scene(SEED + number, *shape(number, *size.shape))


def _read(folder: Path) -> Iterator[ImageArray]:
    usable: list[Path] = []
    left_out: list[str] = []
    paths = find_images(folder)
    for path in paths:  # read twice, so that a folder is refused before the first sample is made
        try:
            _read_varied(path)
            usable.append(path)
        except ImageError as exc:
            left_out.append(str(exc))
    if len(usable) < MIN_IMAGES:
        raise ImageError(
            f"--calibration {folder}: {len(usable)} of its {len(paths)} images can be used, "
            f"expected at least {MIN_IMAGES}; the first that cannot: {left_out[0]}"
        )
    for reason in left_out:
        note(f"left out of calibration: {reason}")
    for path in usable:
        loaded = _read_varied(path)
        for text in loaded.notes:
            note(text)
        yield loaded.pixels


def _read_varied(path: Path) -> LoadedImage:
    loaded = read_image(path)
    if loaded.pixels.reshape(-1, 3).std(axis=0).max() < CONSTANT_STD:
        raise ImageError(
            f"calibration image {path} is of one color, which tells nothing about the ranges of "
            "activations; replace it"
        )
    return loaded


def _hash(image: ImageArray) -> bytes:
    height, width = prompts.height_and_width(image)
    found = hashlib.sha256(f"{height} {width}\n".encode())
    found.update(np.ascontiguousarray(image).tobytes())
    return found.digest()


def _decoder_samples(
    image: ImageArray, predictor: Predictor, random: np.random.Generator
) -> Iterator[Mapping[str, Array]]:
    """Inputs for each kind of prompt, the last with the mask that the first has given."""
    encoded, contract = predictor.embed(image), predictor.contract
    first, *others = random_prompts(random, *encoded.size, contract.max_points)
    refined = replace(first, mask_input=predictor.predict(first, encoded).low_res_mask)
    for prompt in (first, *others, refined):
        yield prompts.decoder_inputs(prompt, encoded.embeddings, encoded.size, contract)


def random_prompts(
    random: np.random.Generator, height: int, width: int, slots: int
) -> list[Prompt]:
    """A click, clicks, a box, a box and a click, anywhere in the image, as far as slots go."""

    def click(inside: bool = True) -> tuple[float, float, bool]:
        return (float(random.uniform(0, width)), float(random.uniform(0, height)), inside)

    (x0, y0), (across, down) = random.uniform(0, 0.6, 2), random.uniform(0.1, 0.4, 2)
    corners = (x0 * width, y0 * height, (x0 + across) * width, (y0 + down) * height)
    box = (float(corners[0]), float(corners[1]), float(corners[2]), float(corners[3]))
    every = (
        Prompt((click(),)),
        Prompt((click(), click(), click(inside=False))),
        Prompt(box=box),
        Prompt((click(),), box),
    )
    return [prompt for prompt in every if prompt.slots <= slots]


def _count(number: int) -> str:
    return "no image" if number == 0 else f"{number} image{'s' if number > 1 else ''}"
