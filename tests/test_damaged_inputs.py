"""No damaged file ends an evaluation, least of all by a signal: all runs in processes of its own.

`python -m benchmarks.damaged_inputs` tries thousands.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_properties_hold_for_any_damage() -> None:
    done = run("-m", "tests.damaged_input_properties")
    assert done.returncode == 0, done.stderr[-4000:]


def test_seeded_damage_is_read_or_refused_in_one_line() -> None:
    done = run(
        "-m", "benchmarks.damaged_inputs", "--coco", "100", "--exif", "200", "--files", "100"
    )
    assert done.returncode == 0, done.stderr[-4000:]
    counts = json.loads(done.stdout)
    assert {kind: sum(outcomes.values()) for kind, outcomes in counts.items()} == {
        "coco": 100,
        "exif": 200,
        "files": 100,
    }
    assert counts["coco"]["evaluated"] > 50
    assert all(outcomes["refused"] for outcomes in counts.values())
    assert done.stderr == ""
