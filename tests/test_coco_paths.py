"""File names as other systems write them are found, and never guessed."""

from pathlib import Path

import pytest

from mobilesam_export.evaluation.coco_paths import locate


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder: Path, *names: str) -> list[str | None]:
    paths = locate(folder, names)
    return [paths[name].relative_to(folder).as_posix() if name in paths else None for name in names]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sub/a.png", "sub/a.png"),
        (r"sub\a.png", "sub/a.png"),
        (r"C:\data\b.png", "b.png"),
        ("/home/user/b.png", "b.png"),
        ("../images/b.png", "b.png"),
        ("B.PNG", "b.png"),
        ("e\u0301.png", "é.png"),  # as macOS writes it
        ("c.png", None),
        ("x" * 5000, None),
        ("b.png\0", None),
        ("\ud800.png", None),
    ],
)
def test_a_name_is_a_path_or_the_only_base_name(
    name: str, expected: str | None, tmp_path: Path
) -> None:
    touch(tmp_path, "sub/a.png", "b.png", "é.png")
    assert found(tmp_path, name) == [expected]


def test_a_base_name_of_two_files_is_no_name(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.png", "two/a.png")
    assert found(tmp_path, r"C:\a.png") == [None]


def test_two_names_do_not_share_a_base_name(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    assert found(tmp_path, r"train\a.png", r"val\a.png") == [None, None]
    assert found(tmp_path, "a.png", r"val\a.png") == ["a.png", None]
