"""Short names of bundles for tables."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def folder_names(folders: Sequence[Path]) -> list[str]:
    """The name of each folder, with as many parents as it takes to tell them apart.

    Args:
        folders: all different.
    """
    parts = [Path(os.path.normpath(folder.absolute())).parts for folder in folders]
    lengths = [1] * len(folders)
    while True:
        names = [Path(*p[-n:]).as_posix() for p, n in zip(parts, lengths, strict=True)]
        counts = Counter(names)
        if max(counts.values(), default=1) == 1:
            return names
        lengths = [n + (counts[name] > 1) for n, name in zip(lengths, names, strict=True)]
