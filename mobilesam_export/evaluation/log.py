"""Figures of an evaluation, one line of JSON per image, so that a later run can resume it.

The first line identifies candidates and images; a file of another evaluation is never continued.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from mobilesam_export.errors import UsageError
from mobilesam_export.files import write_text


class EvaluationLog:
    """Records of earlier runs, and the file for new ones.

    Attributes:
        records: of the evaluated images, in the order of evaluation.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, Any]) -> None:
        """Read an existing file and open it for appending.

        Args:
            path: of the file; None to write none.
            identity: of candidates and images.

        Raises:
            UsageError: the file holds another evaluation, or something else.
            OutputError: it cannot be written.
        """
        self.records: list[dict[str, Any]] = []
        self._file: TextIO | None = None
        if path is None:
            return
        lines = _whole_lines(path)
        header = json.loads(json.dumps(identity))
        if lines and (differences := _differing(lines[0], header)):
            raise UsageError(
                f"{path} holds another evaluation (other {', '.join(differences)}); "
                "choose another name or delete it"
            )
        self.records = lines[1:]
        # Written again without a line that broke off.
        write_text(path, "".join(map(_line, [identity, *self.records])))
        self._file = path.open("a", encoding="utf-8")

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one image's record to the disk at once."""
        if self._file is not None:
            self._file.write(_line(record))
            self._file.flush()

    def close(self) -> None:
        """Close the file; nothing can be appended any more."""
        if self._file is not None:
            self._file.close()


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record) + "\n"


def _differing(stored: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Names of the keys in which two identities differ."""
    names = dict.fromkeys((*current, *stored))
    return [name for name in names if stored.get(name) != current.get(name)]


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines of the file; empty if there is no such file."""
    try:
        text = path.read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.split("\n")[:-1]]
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise UsageError(f"cannot read {path}: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"{path} is not an evaluation's file; choose another name") from exc
    if not all(isinstance(line, dict) for line in lines) or not all(map(_is_record, lines[1:])):
        raise UsageError(f"{path} is not an evaluation's file; choose another name")
    return lines


def _is_record(line: Mapping[str, Any]) -> bool:
    kinds = {"image": str, "problems": list, "candidates": dict}
    return all(isinstance(line.get(key), kind) for key, kind in kinds.items())
