"""The cache of a teacher's embeddings: what is flushed is there again, within its limit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mobilesam_export.distillation.embedder import Embedder
from mobilesam_export.distillation.embeddings import EmbeddingCache, embedding_bytes
from mobilesam_export.errors import MeasurementError, OutputError, UsageError
from mobilesam_export.scenes import scene
from tests.distillation_parts import SIZE, teacher


def cache(folder: Path, sha256: str = "a", limit: int = 10**9, process: int = 0) -> EmbeddingCache:
    return EmbeddingCache(folder, sha256, SIZE, limit, process)


def embedding(seed: int) -> Tensor:
    return torch.randn(256, 16, 16, generator=torch.Generator().manual_seed(seed)).half()


def test_what_was_flushed_is_there_for_the_next_run(tmp_path: Path) -> None:
    first = cache(tmp_path / "new" / "folder")
    first.put("x-0", embedding(0))
    first.flush()
    first.put("y-0", embedding(1))  # lost with the process
    later = cache(tmp_path / "new" / "folder")
    assert "y-0" not in later
    assert torch.equal(later.get("x-0"), embedding(0))


def test_processes_see_each_other_s_embeddings_after_a_refresh(tmp_path: Path) -> None:
    first, second = cache(tmp_path), cache(tmp_path, process=1)
    first.put("x-0", embedding(0))
    first.flush()
    assert "x-0" not in second
    second.refresh()
    assert torch.equal(second.get("x-0"), embedding(0))
    second.put("y-0", embedding(1))
    second.flush()
    assert {path.name for path in tmp_path.glob("*.safetensors")} == {
        "0-00000.safetensors",
        "1-00000.safetensors",
    }


def test_a_cache_takes_no_more_than_its_limit(tmp_path: Path) -> None:
    limited = cache(tmp_path, limit=2 * embedding_bytes(SIZE))
    for number in range(3):
        limited.put(f"{number}-0", embedding(number))
    limited.flush()
    assert [f"{number}-0" in limited for number in range(3)] == [True, True, False]
    used = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    assert used <= 2 * embedding_bytes(SIZE) + 4096  # the header of the file


def test_a_cache_of_nothing_writes_nothing(tmp_path: Path) -> None:
    empty = cache(tmp_path / "none", limit=0)
    empty.put("x-0", embedding(0))
    empty.flush()
    assert not (tmp_path / "none").exists()


def test_a_cache_of_another_teacher_or_size_is_refused(tmp_path: Path) -> None:
    first = cache(tmp_path)
    first.put("x-0", embedding(0))
    first.flush()
    with pytest.raises(UsageError, match="embeddings of another teacher; give another --cache"):
        cache(tmp_path, sha256="b")
    with pytest.raises(UsageError, match="another image_size"):
        EmbeddingCache(tmp_path, "a", 512, 10**9)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    first = cache(tmp_path)
    first.put("x-0", embedding(0))
    first.flush()
    shard = next(tmp_path.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(MeasurementError, match="is damaged; delete it"):
        cache(tmp_path)


def test_a_full_disk_while_caching_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = cache(tmp_path)
    full.put("w-0", embedding(1))
    full.flush()
    full.put("x-0", embedding(0))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        full.flush()
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 2  # the manifest and the first shard
    assert torch.equal(cache(tmp_path).get("w-0"), embedding(1))


def test_only_what_is_missing_is_computed_and_order_is_kept(tmp_path: Path) -> None:
    calls: list[int] = []
    counted = teacher(on_call=calls.append)
    embedder = Embedder(counted, cache(tmp_path))
    pixels = torch.from_numpy(np.stack([scene(seed, SIZE, SIZE) for seed in range(3)]))
    middle = embedder.embed(pixels[1:2], ("b-0",))
    found = embedder.embed(pixels, ("a-0", "b-0", "c-0"))
    assert len(calls) == 3
    assert torch.equal(found[1:2], middle)
    fresh = teacher()
    assert torch.equal(found, torch.cat([fresh.embed(pixels[i : i + 1]) for i in range(3)]))
