"""Sample apps of a bundle: one folder per platform here, written into the bundle's `sample/`.

The files of `swift-coreai`, for another runtime, lie over those of `swift`, and so on: what comes
behind a hyphen is a variant. A sample reads what it can from `manifest.json` at run time. What a
compiler has to know is a placeholder in its text, such as `{{width}}`; `placeholders` lists them.
"""

import contextlib
import re
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from mobilesam_export.backends import get_backend
from mobilesam_export.bundle.contents import Contents
from mobilesam_export.bundle.staging import CACHES
from mobilesam_export.contract import FILL
from mobilesam_export.errors import BackendError

FOLDER = "sample"
PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


def write_sample(stage: Path, contents: Contents) -> None:
    """Write the samples that the backend names for this contract into `stage`/sample.

    Args:
        stage: folder of the bundle; without a sample nothing is written to it.
        contents: of the bundle.

    Raises:
        BackendError: there is no sample of a name, or it has an unknown placeholder.
    """
    values = placeholders(contents)
    for name in get_backend(contents.target.backend).samples(contents.contract):
        write_files(name, stage / FOLDER, values)


def write_files(name: str, folder: Path, values: Mapping[str, str]) -> None:
    """Write one sample, a variant into the folder of what it is one of.

    Args:
        name: such as "swift" or "swift-coreai".
        folder: in which it gets a folder.
        values: of placeholders.

    Raises:
        BackendError: there is no sample of that name, or it has an unknown placeholder.
    """
    root, base = resources.files(__name__), name.partition("-")[0]
    files: dict[str, Traversable] = {}
    for part in dict.fromkeys((base, name)):
        if not (root / part).is_dir():
            raise BackendError(f"a backend names no sample: {name!r}")
        files |= _files(root / part)
    _copy(files, folder / base, values)


def placeholders(contents: Contents) -> Mapping[str, str]:
    """What a `{{name}}` in a sample's text stands for.

    Returns:
        `width`, `height`: of the input, in pixels. `slots`: N of the decoder. `fill_red`,
        `fill_green`, `fill_blue`: bytes of the padding. `image_dtype`: of the encoder's input.
        `encoder`, `decoder`: names of the files. `target`, `recipe`, `version`: what wrote them.
        And every word of the target's [convert] table.
    """
    contract, suffix = contents.contract, get_backend(contents.target.backend).suffix
    red, green, blue = FILL
    values = {
        **contents.convert,
        "width": contract.size.width,
        "height": contract.size.height,
        "slots": contract.points,
        "fill_red": red,
        "fill_green": green,
        "fill_blue": blue,
        "image_dtype": contract.encoder.inputs[0].dtype,
        "encoder": f"encoder{suffix}",
        "decoder": f"decoder{suffix}",
        "target": contents.target.name,
        "recipe": contents.recipe_name,
        "version": contents.versions["mobilesam-export"],
    }
    return {name: str(value) for name, value in values.items()}


def fill(text: str, values: Mapping[str, str]) -> str:
    """Replace every `{{name}}`.

    Raises:
        BackendError: a name is not among `values`.
    """
    if unknown := sorted({*PLACEHOLDER.findall(text)} - {*values}):
        raise BackendError(
            f"a sample has the placeholder {{{{{unknown[0]}}}}}; known: {', '.join(sorted(values))}"
        )
    return PLACEHOLDER.sub(lambda match: values[match[1]], text)


def _files(source: Traversable, above: str = "") -> dict[str, Traversable]:
    """Every file below a folder by its path there, with "/"."""
    found: dict[str, Traversable] = {}
    for item in source.iterdir():
        if not item.is_dir():
            found[f"{above}{item.name}"] = item
        elif item.name not in CACHES:
            found |= _files(item, f"{above}{item.name}/")
    return found


def _copy(files: Mapping[str, Traversable], target: Path, values: Mapping[str, str]) -> None:
    """Files into a folder; those that are not UTF-8 text as they are."""
    for name, item in files.items():
        content = item.read_bytes()
        with contextlib.suppress(UnicodeDecodeError):  # an image or an archive
            content = fill(content.decode("utf-8"), values).encode("utf-8")
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
