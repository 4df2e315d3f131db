"""The benchmark beside other exporters: answers are judged, ratios are of rounds, the table."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest

from benchmarks import speed
from benchmarks.rounds import with_ratios
from benchmarks.speed_files import File
from benchmarks.speed_tables import beside

RIGHT = {"image_embeddings": np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 4, 4, 4)}


def file(path: Path, recipe: str, answers: dict[str, Any], graph: str = "encoder") -> File:
    """One of a recipe that wants 40 dB, logits within 0.5 and IoUs within 0.03."""
    path.write_bytes(b"1234")
    tolerance = SimpleNamespace(embedding_psnr_db=40, iou_max_abs_error=0.03)
    bundle: Any = SimpleNamespace(recipe=SimpleNamespace(tolerance=tolerance), logits_limit=0.5)
    return File("onnx", recipe, graph, path, {}, answers, bundle)


def test_an_encoder_off_the_naive_form_s_answer_is_not_timed(tmp_path: Path) -> None:
    naive = file(tmp_path / "a", "naive", {"output_0": RIGHT["image_embeddings"]})
    assert "psnr_db" not in speed.described(naive, [naive])
    near = {"image_embeddings": RIGHT["image_embeddings"] + np.float32(0.009)}
    row = speed.described(file(tmp_path / "b", "w8", near), [naive])
    assert row["psnr_db"] == pytest.approx(40.9, abs=0.05)
    assert row["bytes"] == 4
    off = {"image_embeddings": RIGHT["image_embeddings"] + np.float32(0.011)}
    with pytest.raises(click.ClickException, match=r"onnx-w8, encoder: 0\.011 off the naive form"):
        speed.described(file(tmp_path / "b", "w8", off), [naive])


def test_a_prepared_decoder_is_held_to_the_naive_decoder(tmp_path: Path) -> None:
    logits, ious = np.zeros((1, 4, 2, 2), np.float32), np.zeros((1, 4), np.float32)
    naive = file(tmp_path / "a", "naive", {"0": logits, "1": ious}, "decoder")
    # What a file names first is no matter.
    right = {"iou_predictions": ious + np.float32(0.02), "low_res_masks": logits}
    row = speed.described(file(tmp_path / "b", "w8", right, "decoder_prepared"), [naive])
    assert "psnr_db" not in row
    wrong = right | {"iou_predictions": ious + np.float32(0.04)}
    with pytest.raises(click.ClickException, match="off the naive form"):
        speed.described(file(tmp_path / "b", "w8", wrong, "decoder_prepared"), [naive])


def test_every_file_is_timed_in_every_round() -> None:
    ran: list[int] = []
    runs = [({"graph": str(number)}, lambda number=number: ran.append(number)) for number in (1, 2)]
    rows = speed.measure(runs, 3)  # type: ignore[arg-type]
    assert [len(row["times_ms"]) for row in rows] == [3, 3]
    assert min(ran.count(1), ran.count(2)) >= 3


def row(recipe: str, graph: str, times: list[float]) -> dict[str, Any]:
    named = {"runtime": "ONNX Runtime", "threads": 2, "recipe": recipe, "graph": graph}
    return {**named, "bytes": 2_000_000, "times_ms": times, "cpu_ms": times}


def test_the_table_has_ratios_to_both_and_dashes_for_what_there_is_not() -> None:
    rows = [
        row("naive", "encoder", [100, 200, 100]),
        row(speed.SAMEXPORTER, "encoder", [110, 80, 120]),
        row("float32", "encoder", [55, 100, 60]) | {"psnr_db": 130.2},
        row("naive", "decoder", [10, 20, 10]),
        row("float32", "prepare", [1, 2, 1]),
    ]
    lines = beside({"rows": speed.beside_samexporter(with_ratios(rows))}).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][1:6] == ["encoder", "to samexporter", "embedding", "size", "decoder"]
    assert cells[2][1:] == ["100; 1.00", "0.91", "–", "2.0 MB", "10.0; 1.00", "–", "–"]
    assert cells[4][1:] == ["60.0; 0.55", "0.50", "130 dB", "2.0 MB", "–", "1.0; 0.10", "–"]
