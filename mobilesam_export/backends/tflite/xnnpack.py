"""Which ops of a TFLite file XNNPACK takes: asked of the delegate itself, in a process of its own.

The interpreter prepares the file, which is enough to partition it; nothing is run. Native code that
a damaged file brings down takes only that process with it.

    python -m mobilesam_export.backends.tflite.xnnpack FILE prints {"partitions": 1, "left": [...]}
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mobilesam_export.inspection.graph import Partitions

TIMEOUT_S = 300


def find_partitions(path: Path) -> Partitions | None:
    """Ask the delegate; None if the interpreter cannot prepare the file."""
    command = [sys.executable, "-m", __name__, str(path)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        )
        found = json.loads(done.stdout)
        left = tuple((kind, name) for kind, name in found["left"])
        return Partitions("XNNPACK", found["partitions"], left)
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return None


def measure(path: str) -> dict[str, Any]:
    """Partitions of a file, and what is in none of them."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=1)
    nodes = interpreter._get_ops_details()
    interpreter.allocate_tensors()
    delegates = interpreter._get_ops_details()[len(nodes) :]
    producers = {int(index): node for node in nodes for index in node["outputs"]}
    taken: set[int] = set()
    for delegate in delegates:  # what lies between a partition's inputs and outputs is in it
        stop = {int(index) for index in delegate["inputs"]}
        waiting = [int(index) for index in delegate["outputs"]]
        while waiting:
            node = producers.get(waiting.pop())
            if node is None or node["index"] in taken:
                continue
            taken.add(node["index"])
            waiting += [int(index) for index in node["inputs"] if int(index) not in stop]
    names = {item["index"]: item["name"] for item in interpreter.get_tensor_details()}
    computed = {*producers, *(int(item["index"]) for item in interpreter.get_input_details())}
    left = [
        (node["op_name"], names.get(int(node["outputs"][0]), ""))
        for node in nodes
        # what unpacks a constant is done when the file is loaded
        if node["index"] not in taken and computed & {int(index) for index in node["inputs"]}
    ]
    return {"partitions": len(delegates), "left": left}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))  # noqa: T201 - for the process that has asked
