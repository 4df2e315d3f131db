"""What a .tflite file takes of memory to run, in three ways of counting.

    python -m benchmarks.tflite_memory arena|process FILE     prints bytes, of a process of its own

* `live`: the largest sum of tensors that must be held at once, in the file's order of ops. No
  runtime, no scratch memory (`inspect` counts so).
* `arena`: what the interpreter's planner lays out for its own kernels, without XNNPACK, scratch
  tensors of kernels included. It tells no size; the tensors' addresses do.
* `process`: by how much the process grows from before the file is opened to after the first run,
  with XNNPACK and one thread: its workspace, packed weights and whatever else is not in a file.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PAGE = 4096


def measure(path: Path) -> dict[str, int]:
    """Bytes in all three ways; two of them from processes of their own."""
    from mobilesam_export.backends.tflite.describe import describe_tflite
    from mobilesam_export.inspection.memory import find_peak

    found = {"live": find_peak(describe_tflite(path)).bytes}
    for way in ("arena", "process"):
        command = [sys.executable, "-m", __name__, way, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[way] = int(done.stdout)
    return found


def arena(path: str) -> int:
    """The longest run of addresses that tensors of the arena take."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter: Any = Interpreter(path, num_threads=1, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    spans: list[tuple[int, int]] = []
    for tensor in interpreter.get_tensor_details():
        try:
            values = interpreter.tensor(tensor["index"])()
        except ValueError:  # one that no kernel has asked for
            continue
        address = int(values.__array_interface__["data"][0])
        if not _in_file(address, path):
            spans.append((address, address + values.nbytes))
    spans.sort()
    start, end = spans[0]
    longest = end - start
    for first, last in spans[1:]:
        start, end = (first, last) if first > end + PAGE else (start, max(end, last))
        longest = max(longest, end - start)
    return longest


def process(path: str) -> int:
    """Growth of what is not backed by a file."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    before = _anonymous()
    interpreter: Any = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    for tensor in interpreter.get_input_details():
        interpreter.set_tensor(tensor["index"], np.zeros(tensor["shape"], tensor["dtype"]))
    interpreter.invoke()
    return _anonymous() - before


def _anonymous() -> int:
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if "RssAnon" in x]
    return 1024 * int(line.split()[1])


def _in_file(address: int, path: str) -> bool:
    """Whether an address is in the mapped file, where the constants are."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(part, 16) for part in line.split()[0].split("-"))
        if low <= address < high:
            return line.endswith(path)
    return False


if __name__ == "__main__":
    print(json.dumps({"arena": arena, "process": process}[sys.argv[1]](sys.argv[2])))
