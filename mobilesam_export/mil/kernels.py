"""The registry of MIL operations: `@op("relu")` above a function makes it the kernel of relu.

A kernel's parameters have MIL's names; its annotations say in which form it wants them, and its
defaults are those of coremltools' operation set. Tensors of any float type come as float32, of
any integer type as int32 (int64 for int64), of bool as bool. A kernel never writes into its
inputs. It raises ValueError for an attribute value that it does not know.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, TypeVar, get_args

from torch import Tensor

from mobilesam_export.errors import BackendError

Result = Tensor | Sequence[Tensor]
Argument = Tensor | str | list[Tensor]


@dataclass(frozen=True)
class Kernel:
    """The computation of one kind of operation.

    Attributes:
        function: the computation.
        forms: parameter -> conversion of a tensor (or str, or list of tensors) to its type.
        required: parameters without a default.
        exact: its outputs hold only values of its inputs, so there is nothing to round.
    """

    function: Callable[..., Result]
    forms: Mapping[str, Callable[[Argument], Any]]
    required: frozenset[str]
    exact: bool

    def check(self, kind: str, parameters: Mapping[str, Any]) -> None:
        """Refuse parameters that the kernel does not have, and missing ones.

        Raises:
            BackendError: naming the operation.
        """
        if unknown := set(parameters) - set(self.forms):
            raise BackendError(f"op {kind} has inputs unknown here: {', '.join(sorted(unknown))}")
        if missing := self.required - set(parameters):
            raise BackendError(f"op {kind} lacks the inputs {', '.join(sorted(missing))}")

    def __call__(self, arguments: Mapping[str, Argument]) -> tuple[Tensor, ...]:
        """Compute the outputs."""
        result = self.function(**{key: self.forms[key](value) for key, value in arguments.items()})
        return (result,) if isinstance(result, Tensor) else tuple(result)


KERNELS: dict[str, Kernel] = {}


Function = TypeVar("Function", bound=Callable[..., Result])


def op(*kinds: str, exact: bool = False) -> Callable[[Function], Function]:
    """Register a function as the kernel of these kinds of operation."""

    def register(function: Function) -> Function:
        parameters = inspect.signature(function).parameters.values()
        forms = {p.name: _form(p.annotation) for p in parameters}
        required = frozenset(p.name for p in parameters if p.default is p.empty)
        for kind in kinds:
            if kind in KERNELS:
                raise ValueError(f"two kernels for {kind}")
            KERNELS[kind] = Kernel(function, forms, required, exact)
        return function

    return register


def _form(annotation: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - annotations are any object
    """Converter for a parameter with this annotation; "X | None" is as X."""
    if isinstance(annotation, UnionType):
        (annotation,) = (part for part in get_args(annotation) if part is not type(None))
    forms: dict[Any, Callable[[Any], Any]] = {
        Tensor: _tensor,
        str: _string,
        int: lambda value: int(_tensor(value).item()),
        float: lambda value: float(_tensor(value).item()),
        bool: lambda value: bool(_tensor(value).item()),
        list[int]: lambda value: [int(x) for x in _tensor(value).reshape(-1).tolist()],
        list[bool]: lambda value: [bool(x) for x in _tensor(value).reshape(-1).tolist()],
        list[Tensor]: lambda value: list(value) if isinstance(value, list) else [value],
    }
    return forms[annotation]


def _tensor(value: Argument) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"expected one tensor, found {type(value).__name__}")
    return value


def _string(value: Argument) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, found {type(value).__name__}")
    return value
