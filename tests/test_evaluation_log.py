"""Figures of an evaluation on the disk: what a later run takes up, and what it leaves alone."""

import json
from pathlib import Path

import pytest

from mobilesam_export.errors import UsageError
from mobilesam_export.evaluation.log import EvaluationLog

RECORD = {"image": "one", "problems": [], "candidates": {}}


def test_a_log_goes_on_without_a_line_that_broke_off(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    first = EvaluationLog(path, {"candidates": "a"})
    first.append(RECORD)
    first.close()
    with path.open("a") as file:
        file.write('{"image": "tw')
    again = EvaluationLog(path, {"candidates": "a"})
    assert again.records == [RECORD]
    again.append({**RECORD, "image": "two"})
    again.close()
    assert json.loads(path.read_text().splitlines()[-1]) == {**RECORD, "image": "two"}


def test_a_log_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    EvaluationLog(path, {"candidates": "a"}).close()
    before = path.read_bytes()
    with pytest.raises(UsageError, match="holds another evaluation"):
        EvaluationLog(path, {"candidates": "b"})
    path.write_text("not\njson\n")
    with pytest.raises(UsageError, match="is not an evaluation's file"):
        EvaluationLog(path, {"candidates": "a"})
    assert before != path.read_bytes() == b"not\njson\n"


def test_a_log_with_foreign_lines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"candidates": "a"}\n{"image": "one"}\n')
    with pytest.raises(UsageError, match="is not an evaluation's file"):
        EvaluationLog(path, {"candidates": "a"})
