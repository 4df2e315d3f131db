"""litert-torch without a retrace of the graph that changes nothing in the file.

It traces a graph three times after `torch.export`: to decompose it, to make plain nodes of the
functions that its own passes have put in, and to decompose it before it is lowered. The last trace
makes plain nodes as well. What stands between the two asks for them to find a resized image (it
would be lowered to its sums), which is in no graph of ours. Without the trace in the middle the
encoder at 1024 takes 127 s of a processor for 170, and files are the same, byte for byte.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock


@contextlib.contextmanager
def without_retracing() -> Iterator[None]:
    """While inside, litert-torch traces twice; where it has no such pass, as often as it does."""
    from litert_torch._convert import fx_passes
    from litert_torch.fx_infra import pass_base

    def unchanged(_: Any, program: Any) -> Any:
        return pass_base.ExportedProgramPassResult(program, False)

    canonicalize = getattr(fx_passes, "CanonicalizePass", None)
    if canonicalize is None:
        yield
        return
    with mock.patch.object(canonicalize, "call", unchanged):
        yield
