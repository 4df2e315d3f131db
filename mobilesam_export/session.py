"""A loaded file that can be run, whatever runs it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobilesam_export.contract import Array
from mobilesam_export.contract.frame import Frame

Visit = Callable[[str, Array], None]


Observe = Callable[[dict[str, Array], Visit], None]


@dataclass(frozen=True)
class Session:
    """A loaded file that can be run.

    Attributes:
        run: input arrays by name -> output arrays by name. Raises BackendError.
        runtime: what runs it, with its version, for reports.
        note: what a reader of its results must know of this runtime, in one sentence without a
            capital or a full stop; "" if nothing.
        largest: input arrays -> name and absolute value of the largest float16 activation, for
            runtimes that can tell.
        resident: input arrays -> a call that runs the file on them where they lie in a device's
            own memory, and is back when it is done; and one that fetches the outputs. For
            runtimes on such devices, to time the file without the way there and back.
        mask: low-res logits (H/4, W/4), (height, width) of the image and the input's frame ->
            (height, width) bool, where they are positive once brought to that size as
            `prompts.upscale` does; for devices that are faster at it than the host.
        observe: input arrays, and what to call with name and value of each float tensor on the way
            from the image (or its embedding) to an output, in order and in the type that the
            file gives it; for runtimes that can show them.
    """

    run: Callable[[dict[str, Array]], dict[str, Array]]
    runtime: str
    note: str = ""
    largest: Callable[[dict[str, Array]], tuple[str, float]] | None = None
    resident: (
        Callable[[dict[str, Array]], tuple[Callable[[], None], Callable[[], dict[str, Array]]]]
        | None
    ) = None
    mask: Callable[[Array, tuple[int, int], Frame], NDArray[np.bool_]] | None = None
    observe: Callable[[dict[str, Array], Callable[[str, Array], None]], None] | None = None
