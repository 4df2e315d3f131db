"""What tests of Core ML packages share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.coreml import weights
from mobilesam_export.errors import TargetError
from mobilesam_export.graphs import Graph
from mobilesam_export.quiet import quiet
from mobilesam_export.target import Recipe


def opened(package: Path) -> Any:
    """A package as coremltools' MLModel, as it is right after a conversion."""
    with quiet():
        import coremltools as ct
    return ct.models.MLModel(str(package), skip_model_load=True)


def compressed_spec(package: Path, recipe: Recipe, graph: Graph) -> Any:
    """What a recipe makes of the weights of a float16 package."""
    with quiet():  # coremltools leaves its temporary folder to be found and warned of
        return weights.compress(opened(package), recipe, graph).get_spec()


@contextmanager
def refused_before_conversion(message: str) -> Iterator[None]:
    """What is done within it fails in one line, with nothing converted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Conversion, "once", lambda *_: pytest.fail("it is converted"))
        with pytest.raises(TargetError, match=message) as caught:
            yield
    assert "\n" not in str(caught.value)
