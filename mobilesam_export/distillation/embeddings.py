"""The teacher's embeddings on the disk: shards of float16, and a manifest that says whose they are.

A shard is written whole and never changed; whatever lies in the folder is complete. Embeddings are
found by the hash of their image, so that a cache is shared by runs on other images, and a killed
run goes on with what it had.
"""

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mobilesam_export.errors import MeasurementError, OutputError, UsageError
from mobilesam_export.files import make_folder, read_json, write_json, write_whole

MANIFEST = "manifest.json"
SHARD = 64  # embeddings; 134 MB at 1024
CHANNELS, BYTES = 256, 2  # float16
PREPROCESSING = (
    "longest side resized (Pillow, bilinear, antialiased), top left, the rest (124, 116, 104); "
    "views of version 1"
)


def embedding_bytes(image_size: int) -> int:
    """Size of one embedding: 2.1 MB at 1024."""
    return CHANNELS * (image_size // 16) ** 2 * BYTES


class EmbeddingCache:
    """Embeddings of one teacher at one image size.

    Args:
        folder: of the shards; it is made for the first of them.
        teacher_sha256: of the teacher's weights.
        image_size: S.
        limit: bytes that the whole folder may take; 0 to keep nothing.
        process: number of the process that writes, for the names of its shards.

    Raises:
        UsageError: the folder holds embeddings of another teacher, size or preprocessing.
        MeasurementError: its manifest or a shard is damaged.
    """

    def __init__(
        self, folder: Path, teacher_sha256: str, image_size: int, limit: int, process: int = 0
    ) -> None:
        self._folder, self._limit, self._process = folder, limit, process
        self._one = embedding_bytes(image_size)
        self._shards: dict[str, Path] = {}
        self._pending: dict[str, Tensor] = {}
        self._identity = {
            "teacher_sha256": teacher_sha256,
            "image_size": image_size,
            "preprocessing": PREPROCESSING,
            "embeddings": "float16, by SHA-256 of the image's file and number of the view",
        }
        if (folder / MANIFEST).exists():
            _check(folder, self._identity)
            self.refresh()

    def __len__(self) -> int:
        """Embeddings that are here, written or not."""
        return len(self._shards) + len(self._pending)

    def __contains__(self, key: str) -> bool:
        return key in self._shards or key in self._pending

    def get(self, key: str) -> Tensor:
        """One embedding, (256, S/16, S/16) float16, that is here.

        Raises:
            MeasurementError: its shard is damaged.
        """
        if key in self._pending:
            return self._pending[key]
        with _opened(self._shards[key]) as shard:
            embedding: Tensor = shard.get_tensor(key)
        return embedding

    def put(self, key: str, embedding: Tensor) -> None:
        """Keep an embedding if it fits; written with others, at the latest by `flush`.

        Raises:
            OutputError: a full disk, for example.
        """
        if key in self or (len(self) + 1) * self._one > self._limit:
            return
        self._pending[key] = embedding.cpu().contiguous()
        if len(self._pending) >= SHARD:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet.

        Raises:
            OutputError: a full disk, for example.
        """
        if not self._pending:
            return
        if not (self._folder / MANIFEST).exists():
            make_folder(self._folder)
            write_json(self._folder / MANIFEST, self._identity)
        names = [path.stem for path in self._folder.glob(f"{self._process}-*.safetensors")]
        number = 1 + max((int(name.partition("-")[2]) for name in names), default=-1)
        path = self._folder / f"{self._process}-{number:05}.safetensors"
        with write_whole(path) as part:
            part.write_bytes(save(self._pending))
        self._shards |= dict.fromkeys(self._pending, path)
        self._pending = {}

    def refresh(self) -> None:
        """Look for the shards of other processes."""
        known = set(self._shards.values())
        for path in sorted(self._folder.glob("[0-9]*.safetensors")):
            if path not in known:
                with _opened(path) as shard:
                    self._shards |= dict.fromkeys(shard.keys(), path)


def _check(folder: Path, identity: Mapping[str, object]) -> None:
    """Hold the manifest that is there to what this run needs."""
    found = read_json(folder / MANIFEST, MeasurementError)
    names = [name for name, value in identity.items() if found.get(name) != value]
    if names:
        raise UsageError(
            f"{folder} holds embeddings of another {names[0].removesuffix('_sha256')}; give "
            "another --cache or delete it"
        )


@contextlib.contextmanager
def _opened(path: Path):  # type: ignore[no-untyped-def]  # noqa: ANN202 safetensors' handle
    try:
        with safe_open(path, "pt") as shard:
            yield shard
    except (SafetensorError, OSError) as exc:
        raise MeasurementError(
            f"{path}, a part of the cache of embeddings, is damaged; delete it"
        ) from exc


def check_space(folder: Path, needed: int) -> None:
    """Refuse to begin what would fill the disk.

    Args:
        folder: of the cache, there or not.
        needed: bytes that are still to be written.

    Raises:
        OutputError: the disk has less.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise OutputError(
            f"{folder} would take {needed / 1e9:.1f} GB and {free / 1e9:.1f} are free; give a "
            "smaller --cache-gb (0: embeddings are computed again each time) or another --cache"
        )
