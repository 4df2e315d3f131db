"""File names of a COCO file, written on any system -> files of a folder."""

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath


def locate(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Find the file of each name, if there is exactly one.

    A name is a path below the folder, with "/" or Windows' "\\". Where there is no such file, it
    may be the only one with this base name, in any case and Unicode form, anywhere below.

    Args:
        folder: of the images.
        names: as written, each once.

    Returns:
        Paths by name; a name without a file, or with several, has none.
    """
    paths: dict[str, Path] = {}
    for name in names:
        for spelling in (name, name.replace("\\", "/")):
            path = _below(folder, spelling)
            if name not in paths and path is not None and _is_file(path):
                paths[name] = path
    remaining = [name for name in names if name not in paths]
    if remaining:
        paths |= _by_base_name(folder, remaining, set(paths.values()))
    return paths


def _by_base_name(folder: Path, names: Sequence[str], used: set[Path]) -> dict[str, Path]:
    files: dict[str, list[Path]] = defaultdict(list)
    for path in folder.rglob("*"):
        files[_base_name(path.as_posix())].append(path)
    counts = Counter(map(_base_name, names))
    paths = {}
    for name in names:
        base = _base_name(name)
        if counts[base] == len(files[base]) == 1 and not used.intersection(files[base]):
            paths[name] = files[base][0]
    return paths


def _below(folder: Path, name: str) -> Path | None:
    path = Path(os.path.normpath(name))
    outside = path.is_absolute() or path.parts[:1] == ("..",)
    return None if outside or "\0" in name else folder / path


def _base_name(name: str) -> str:
    return unicodedata.normalize("NFC", PurePosixPath(name.replace("\\", "/")).name).casefold()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with characters that no path has
        return False
