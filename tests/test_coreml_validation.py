"""Core ML programs are checked now and then, not after each of coremltools' passes."""

import pytest
from coremltools.converters.mil.mil import Program

from mobilesam_export.backends.coreml.validation import seldom_validated


def test_programs_are_checked_where_dead_operations_were_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked: list[dict[str, bool]] = []
    monkeypatch.setattr(Program, "validate", lambda _, **options: checked.append(options))
    program = Program()
    with seldom_validated():
        program.validate()
        program.validate(check_essential_scope=False)
        program.validate(check_essential_scope=True)
    assert checked == [{"check_essential_scope": True}]
    program.validate()
    assert len(checked) == 2
