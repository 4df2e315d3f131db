"""Our rewrites of ML Programs: what they change, and what they must leave alone."""

from typing import Any

import numpy as np
import pytest

from mobilesam_export.quiet import quiet

Slice = dict[str, Any]
ROWS: Slice = {"begin": [0, 2, 0], "end": [3, 7, 5]}
COLUMNS: Slice = {"begin": [0, 0, 1], "end": [0, 0, 4], "end_mask": [True, True, False]}


def program(*slices: Slice, keep_first: bool = False) -> Any:
    """A program of one slice after the other on (3, 8, 5)."""
    with quiet():
        import coremltools as ct
        from coremltools.converters.mil.mil import Builder as mb

    @mb.program(input_specs=[mb.TensorSpec((3, 8, 5))], opset_version=ct.target.iOS16)  # type: ignore[untyped-decorator]
    def made(x: Any) -> Any:
        results = [x]
        for item in slices:
            results.append(mb.slice_by_index(x=results[-1], **item))
        return tuple(results[1:]) if keep_first else results[-1]

    return made


def merge(made: Any) -> list[Any]:
    """The slices that are left."""
    with quiet():
        from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

        from mobilesam_export.backends.coreml import passes  # noqa: F401 - registers the pass
    PASS_REGISTRY["mobilesam_export::merge_slices"](made)
    return [op for op in made.functions["main"].operations if op.op_type == "slice_by_index"]


def test_two_slices_become_the_one_that_takes_the_same() -> None:
    (merged,) = merge(program(ROWS, COLUMNS))
    x = np.arange(120).reshape(3, 8, 5)
    cut = tuple(slice(*pair) for pair in zip(merged.begin.val, merged.end.val, strict=True))
    assert np.array_equal(x[cut], x[:3, 2:7, :5][:, :, 1:4])
    assert merged.outputs[0].shape == (3, 5, 3)


def test_three_slices_become_one() -> None:
    (merged,) = merge(program(ROWS, COLUMNS, {"begin": [1, 1, 0], "end": [2, 4, 2]}))
    assert [*merged.begin.val, *merged.end.val] == [1, 3, 1, 2, 6, 3]


@pytest.mark.parametrize(
    "other",
    [
        {"begin": [0, 0, 0], "end": [3, 5, 5], "stride": [1, 2, 1]},
        {"begin": [0, 0, 0], "end": [1, 5, 5], "squeeze_mask": [True, False, False]},
    ],
)
def test_slices_that_do_more_than_cut_stay(other: Slice) -> None:
    assert len(merge(program(ROWS, other))) == 2


def test_a_slice_that_is_needed_itself_stays() -> None:
    assert len(merge(program(ROWS, COLUMNS, keep_first=True))) == 2
