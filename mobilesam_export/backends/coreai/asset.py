"""An .aimodel folder, opened only after it was found whole.

Apple's parser ends the whole process on a program that was cut short ("std::bad_cast"), so what can
be wrong is found before: by the program's hash, the version of the format, and the parser's summary
of the file, which does not end the process.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from mobilesam_export.errors import BackendError, BundleError, one_line
from mobilesam_export.quiet import quiet_descriptors

FUNCTION = "main"
PROGRAM, HASH, METADATA = "main.mlirb", "main.hash", "metadata.json"
FORMAT = 2  # the first number of assetVersion that coreai-core 1.0.0b3 writes


def open_asset(path: Path) -> Any:
    """A whole asset, as coreai-core's `AIModelAsset`.

    Raises:
        BundleError: it is damaged, or no asset.
        BackendError: it is of a newer format than this coreai-core reads.
    """
    _check_files(path)
    with quiet_descriptors():
        from coreai.authoring import AIModelAsset

        asset = AIModelAsset.load(path)
        summary = asset.summary(include_statistics=False)
    functions = summary.function_names if summary is not None else []
    if FUNCTION not in functions:
        raise BackendError(
            f"{path} has no function {FUNCTION!r} that this coreai-core can read (it was made by "
            f"{_producer(path)}); install the version that made it, or export again"
        )
    return asset


def _check_files(path: Path) -> None:
    if not path.is_dir():
        raise BundleError(f"{path} is no folder; an .aimodel is one, copy it whole")
    for name in (METADATA, PROGRAM, HASH):
        if not (path / name).is_file():
            raise BundleError(f"{path} is damaged: {name} is missing; copy it again, or export it")
    version = str(_metadata(path).get("assetVersion", ""))
    first = version.partition(".")[0]
    if not first.isdecimal() or int(first) > FORMAT:
        raise BackendError(
            f"{path} has version {one_line(version) or 'none'} of the format (made by "
            f"{_producer(path)}), expected {FORMAT}.x: install a newer coreai-core, or export again"
        )
    with (path / PROGRAM).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").digest()
    if found != (path / HASH).read_bytes():
        raise BundleError(
            f"{path} is damaged: {PROGRAM} does not have the hash in {HASH}; copy it again, or "
            "export it"
        )


def _metadata(path: Path) -> dict[str, Any]:
    try:
        read = json.loads((path / METADATA).read_text(encoding="utf-8"))
    except ValueError as exc:
        raise BundleError(f"{path} is damaged: {METADATA} is no JSON; export it again") from exc
    if not isinstance(read, dict):
        raise BundleError(f"{path} is damaged: {METADATA} is no JSON object; export it again")
    return read


def _producer(path: Path) -> str:
    return one_line(_metadata(path).get("producer", "an unknown tool"))
