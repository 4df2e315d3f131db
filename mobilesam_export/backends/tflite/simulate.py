"""How ops in int8 round what they take and give."""

from torch import nn

from mobilesam_export.backends.simulation import Inputs, Range
from mobilesam_export.backends.tflite.int8 import HEADROOM, Quantization
from mobilesam_export.backends.tflite.names import kind_of
from mobilesam_export.contract import Array
from mobilesam_export.graphs import Graph, names


def rounded_inputs(graph: Graph, quantization: Quantization) -> dict[str, Inputs]:
    """See `Backend.rounded_inputs`; dynamic matrices find a range for each row."""

    def fix(low: float, high: float, _: Array) -> Range:
        factor = HEADROOM[quantization.activations]
        return low * factor, high * factor

    found = dict[str, Inputs]()
    for name in names.weights(graph.module):
        layer = graph.module.get_submodule(name.rpartition(".")[0])
        if kind_of(layer) not in quantization.int8 or quantization.excepts(name):
            continue
        rows = isinstance(layer, nn.Linear)
        found[name] = Inputs(fix, results=True) if quantization.static else Inputs(rows=rows)
    return found
