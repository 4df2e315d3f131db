"""Writing files completely or not at all, reading JSON, and first lines of exceptions."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilesam_export.errors import BundleError, OutputError, UsageError, first_line
from mobilesam_export.files import check_output, read_json, write_json, write_text, write_whole


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    write_text(path, "new: é")
    assert path.read_text(encoding="utf-8") == "new: é"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_file_has_the_suffix_that_writers_look_at(tmp_path: Path) -> None:
    with write_whole(tmp_path / "a.png") as part:
        assert part.suffix == ".png"
        assert part.name.startswith(".")
        part.touch()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_inside_keeps_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half() -> None:
        with write_whole(path) as part:
            part.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*a\.txt: No such file or directory"):
        write_text(tmp_path / "gone" / "a.txt", "text")


def test_a_name_as_long_as_the_file_system_allows_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / f"{'é' * 125}.json"
    write_json(path, {"a": 1})
    assert read_json(path, BundleError) == {"a": 1}


def test_json_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json", BundleError) == {"a": 1}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b"[" * 100_000])
def test_what_is_not_json_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"a\.json is not JSON: .") as caught:
        read_json(tmp_path / "a.json", BundleError)
    assert "\n" not in str(caught.value)


def test_a_json_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"cannot read .*gone\.json: No such file or directory"):
        read_json(tmp_path / "gone.json", BundleError)


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("a.txt", UsageError, r"is not a \.json file; choose a name that ends in \.json"),
        ("folder.json", UsageError, "is a folder"),
        ("gone/a.json", UsageError, "no such folder as .*gone"),
        ("a.txt/a.json", UsageError, r"no such folder as .*a\.txt"),
        ("a" * 300 + ".json", OutputError, "cannot write .*too long"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, name: str, error: type[Exception], said: str
) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "a.txt").touch()
    with pytest.raises(error, match=said):
        check_output(tmp_path / name, ".json")


@pytest.mark.parametrize("message", ["", "\n", " \n\t"])
def test_an_exception_without_a_message_is_named_by_its_class(message: str) -> None:
    assert first_line(RuntimeError(message)) == "RuntimeError"


@given(st.text())
def test_the_first_line_of_any_exception_is_one_short_line(message: str) -> None:
    line = first_line(ValueError(message))
    assert 0 < len(line) <= 300
    assert line.splitlines() == [line]
