"""XNNPACK is asked how it cuts a file; what it is asked with may be damaged."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam_export.backends.tflite.xnnpack import find_partitions
from mobilesam_export.inspection.graph import Partitions
from tests.cli_runner import ERROR, refused, warm
from tests.tflite_files import Op, Options, make_file

ADD: Options = ("AddOptions", {})


def whole_file(path: Path) -> Path:
    tensors: dict[str, Any] = {"x": (4, 8), "a": (4, 8), "y": (4, 8)}
    return make_file(path, tensors, [Op("ADD", ["x", "x"], ["a"], ADD), Op("TANH", ["a"], ["y"])])


def split_file(path: Path) -> Path:
    """Rows that are picked by an op that XNNPACK has no kernel for, between two that it has."""
    tensors: dict[str, Any] = {
        "x": (4, 8),
        "a": (4, 8),
        "where": np.array([[1], [2]], np.int32),
        "picked": (2, 8),
        "y": (2, 8),
    }
    ops = [
        Op("ADD", ["x", "x"], ["a"], ADD),
        Op("GATHER_ND", ["a", "where"], ["picked"]),
        Op("TANH", ["picked"], ["y"]),
    ]
    return make_file(path, tensors, ops)


def test_a_file_that_is_taken_whole(tmp_path: Path) -> None:
    assert find_partitions(whole_file(tmp_path / "a.tflite")) == Partitions("XNNPACK", 1, ())


def test_a_file_that_falls_in_two(tmp_path: Path) -> None:
    found = find_partitions(split_file(tmp_path / "a.tflite"))
    assert found == Partitions("XNNPACK", 2, (("GATHER_ND", "picked"),))


def test_a_damaged_file_is_no_partition(tmp_path: Path) -> None:
    path = whole_file(tmp_path / "a.tflite")
    path.write_bytes(path.read_bytes()[:200])
    assert find_partitions(path) is None


def test_inspect_prints_partitions_and_residency(tmp_path: Path) -> None:
    split_file(tmp_path / "a.tflite")
    result = warm(tmp_path, ["inspect", "a.tflite"])
    assert result.code == 0
    assert "2 partitions, measured; left to the runtime: GATHER_ND" in result.stdout
    assert "0 resident, 2 at risk, 1 not resident" in result.stdout
    (graph,) = json.loads(warm(tmp_path, ["inspect", "a.tflite", "--json"]).stdout)["graphs"]
    assert graph["partitions"] == {
        "delegate": "XNNPACK",
        "count": 2,
        "left": [["GATHER_ND", "picked"]],
    }
    assert [op["verdict"] for op in graph["residency"]["ops"]] == [
        "at risk",  # rows stand where a delegate has its batch
        "not resident",
        "at risk",
    ]


def test_inspect_refuses_a_cut_and_a_foreign_file(tmp_path: Path) -> None:
    path = whole_file(tmp_path / "cut.tflite")
    path.write_bytes(path.read_bytes()[:200])
    refused(tmp_path, ["inspect", "cut.tflite"], ERROR, ["cut.tflite is damaged"])
    (tmp_path / "foreign.tflite").write_bytes(b"\x89PNG and so on")
    refused(tmp_path, ["inspect", "foreign.tflite"], ERROR, ["no TFLite file"])
