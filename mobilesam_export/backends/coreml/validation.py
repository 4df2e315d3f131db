"""coremltools' checks of a program between passes: a few of them instead of all."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock


@contextlib.contextmanager
def seldom_validated() -> Iterator[None]:
    """While inside, programs are checked where dead operations were removed, and not at each pass.

    A hundred passes run whenever a program is made or changed, and what checks the whole program
    after each of them takes half of the time. Checks change nothing: files are the same.
    """
    from coremltools.converters.mil.mil import Program

    validate = Program.validate

    def seldom(program: Program, *args: Any, **options: Any) -> None:
        if args or any(options.values()):  # `check_essential_scope`, after that pass only
            validate(program, *args, **options)

    with mock.patch.object(Program, "validate", seldom):
        yield
