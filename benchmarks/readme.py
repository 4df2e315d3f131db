"""Every generated block of the three READMEs, between `<!-- NAME -->` and `<!-- /NAME -->`.

`make readme` renders all of them from `benchmarks/results/*.json` and `targets/*.toml`; nothing is
measured. A test holds each block to its rendering.
"""

import re
from collections.abc import Callable
from functools import partial

from benchmarks import (
    arithmetic_tables,
    baseline_tables,
    distillation_tables,
    fitting_tables,
    speed_tables,
    tables,
)

READMES = tuple(
    tables.ROOT / name for name in ("README.md", "benchmarks/README.md", "targets/README.md")
)
BLOCK = re.compile(r"(<!-- (?P<name>[\w-]+) -->\n)(?P<body>.*?)(?=<!-- /(?P=name) -->)", re.DOTALL)
TABLES: dict[str, Callable[[], str]] = {
    "arithmetic-arm": arithmetic_tables.arm,
    "arithmetic-coreai": arithmetic_tables.coreai,
    "arithmetic-coreai-ops": arithmetic_tables.coreai_ops,
    "arithmetic-coreai-recipes": arithmetic_tables.coreai_recipes,
    "arithmetic-float16": arithmetic_tables.float16,
    "arithmetic-heads": arithmetic_tables.heads,
    "baselines": baseline_tables.baselines,
    "coreai-opt": baseline_tables.coreai_opt,
    "beside": speed_tables.beside,
    "choices": tables.choices,
    "coreml-graph": tables.coreml_graph,
    "damaged-inputs": tables.damaged_inputs,
    "decoupled": distillation_tables.decoupled,
    "demo-quality": tables.demo_quality,
    "distillation": distillation_tables.distillation,
    "distillation-speed": distillation_tables.distillation_speed,
    "everything": speed_tables.everything,
    "executorch": speed_tables.executorch,
    "export-cost": tables.export_cost,
    "fitting": fitting_tables.fitting,
    "fitting-asked": fitting_tables.asked,
    "gate": speed_tables.gate,
    "gpu": speed_tables.gpu,
    "inspect": tables.inspect,
    "interpreter": tables.interpreter,
    "paper": speed_tables.paper,
    "parity": tables.parity,
    "photographs": fitting_tables.photographs,
    "prompt-sets": speed_tables.prompt_sets,
    "recipes": tables.recipes,
    "recovery": distillation_tables.recovery,
    "rectangle-encoders": speed_tables.rectangle_encoders,
    "rectangles": speed_tables.rectangles,
    "recovery-noise": distillation_tables.noise,
    "recovery-rates": distillation_tables.rates,
    "runtimes": tables.runtimes,
    "samexporter": tables.samexporter,
    "speed": speed_tables.speed,
    "starts": fitting_tables.starts,
    "student": distillation_tables.student,
    "targets": tables.targets,
    "tflite-decoder": partial(speed_tables.tflite, "decoder"),
    "tflite-encoder": partial(speed_tables.tflite, "encoder"),
    "web-page": tables.web_page,
    "web": speed_tables.web,
    "webgpu": tables.webgpu,
}


def blocks(text: str) -> dict[str, str]:
    """Name -> content of every block of a README."""
    return {match["name"]: match["body"].removesuffix("\n") for match in BLOCK.finditer(text)}


def rendered(text: str) -> str:
    """A README with every block rendered anew.

    Raises:
        KeyError: a block has a name that is not in TABLES.
    """
    return BLOCK.sub(lambda match: f"{match[1]}{TABLES[match['name']]()}\n", text)


def main() -> None:
    """Rewrite the READMEs."""
    for path in READMES:
        path.write_text(rendered(path.read_text()))


if __name__ == "__main__":
    main()
