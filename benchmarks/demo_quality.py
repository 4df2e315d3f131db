"""How well the demo weights segment held-out scenes, and what each kind of file loses.

    python -m benchmarks.demo_quality build/demo-quality

exports from `-c demo` and runs `evaluate`: 200 scenes at 1024 through the quick files, the first 10
of them through PyTorch and the MIL interpreter as well, and 100 at 512. Takes about 20 minutes on
2 free cores; interrupted, the same command goes on where it was.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "demo_quality.json"
QUICK = (("onnx", "float32"), ("tflite", "w8-dynamic"))
EVERY = (*QUICK, ("coreml", "float16"))


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    runs = {
        "200 scenes at 1024": (1024, 200, QUICK, ()),
        "10 scenes at 1024, with PyTorch": (1024, 10, EVERY, ("--pytorch",)),
        "100 scenes at 512": (512, 100, QUICK[:1], ()),
    }
    results = {}
    for name, (side, scenes, kinds, options) in runs.items():
        bundles = [_export(folder, side, *kind) for kind in kinds]
        save = folder / f"{side}-{scenes}.jsonl"
        asked = (*bundles, "--scenes", str(scenes), "--save", str(save), *options, "--json")
        results[name] = json.loads(_run("evaluate", *asked))
        _rename(results[name], folder)
        RESULT.write_text(json.dumps({"command": __spec__.name, **results}, indent=1) + "\n")


def _export(folder: Path, side: int, target: str, recipe: str) -> str:
    bundle = folder / f"{target}-{recipe}-{side}"
    if not bundle.exists():
        asked = ("-c", "demo", "-r", recipe, "--image-size", str(side), "-o", str(bundle))
        _run(target, *asked)
    return str(bundle)


def _rename(result: dict[str, Any], folder: Path) -> None:
    """Bundles by target and recipe, without the folder that they happened to be in."""
    result["candidates"] = {
        name.removeprefix(f"{folder}/"): found for name, found in result["candidates"].items()
    }


def _run(*arguments: str) -> str:
    command = [sys.executable, "-m", "mobilesam_export", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
