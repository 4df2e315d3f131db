"""The whole set of operations: none of the MIL interpreter's kernels is left without a test."""

from pathlib import Path

from mobilesam_export.mil.ops import KERNELS


def test_every_kernel_is_tested() -> None:
    files = sorted(Path(__file__).parent.glob("test_mil_*.py"))
    text = "".join(file.read_text() for file in files if file != Path(__file__))
    named = {kind for kind in KERNELS if f"mb.{kind}(" in text or f'"{kind}"' in text}
    assert set(KERNELS) - named == set()
