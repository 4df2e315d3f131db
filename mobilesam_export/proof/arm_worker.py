"""Runs a bundle's files in this process, as asked line by line; see `arm`.

    python -m mobilesam_export.proof.arm_worker BUNDLE

Standard input has a line of JSON for each run: `graph`, and `inputs` and `outputs`, .npz files of
the arrays by name. Each is answered by a line of JSON with `runtime` or `error`.
"""

import json
import sys
from pathlib import Path

import numpy as np

from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.errors import MobileSamExportError


def main(bundle: Path) -> None:
    """Answer until the input ends."""
    try:
        predictor = open_bundle(bundle).predictor()
        _answer(runtime=predictor.encoder.runtime)
        for line in sys.stdin:
            question = json.loads(line)
            session = getattr(predictor, question["graph"])
            with np.load(question["inputs"]) as inputs:
                outputs = session.run(dict(inputs))
            np.savez(question["outputs"], **outputs)
            _answer(runtime=session.runtime)
    except MobileSamExportError as exc:
        _answer(error=str(exc))


def _answer(**words: str) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
