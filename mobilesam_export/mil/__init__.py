"""Run saved Core ML ML Programs where there is no Core ML: on Linux, by torch, on the CPU.

    interpreter = load_program(Path("encoder.mlpackage"), mode="float16")
    outputs = interpreter.run({"image": pixels})

It reads what is in the package, the specification and the weight file, and knows nothing of how
the package was made. "float32" is exact arithmetic on the stored weights; "float16" rounds to what
the program declares after every operation. It makes no claim about the kernels of any one chip.
"""

from mobilesam_export.mil.program import Operation, Program, Value, read_program
from mobilesam_export.mil.run import MODES, Interpreter, load_program

__all__ = [
    "MODES",
    "Interpreter",
    "Operation",
    "Program",
    "Value",
    "load_program",
    "read_program",
]
