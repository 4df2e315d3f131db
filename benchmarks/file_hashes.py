"""SHA-256 of the encoder and decoder of every target and recipe: did a change change a file?

    python -m benchmarks.file_hashes before.json
    python -m benchmarks.file_hashes after.json --against before.json

    python -m benchmarks.file_hashes after.json --without-names

Files are exported by the installed program from the demo weights, without verification. With
`--against`, every file that differs is named and the exit code is 1. `--without-names` leaves out
the names inside the graphs and texts for people, see `nameless`.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import nameless

COMMAND = (sys.executable, "-m", "mobilesam_export")


def main() -> int:
    """Write the list, and compare it with an earlier one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="JSON to write")
    parser.add_argument("--against", type=Path, help="JSON of an earlier run")
    parser.add_argument("--image-size", default="256")
    parser.add_argument("--only", default="", help="a TARGET or TARGET:RECIPE, for a quick look")
    parser.add_argument("--without-names", action="store_true", help="names inside may differ")
    arguments = parser.parse_args()
    digest = nameless_sha256 if arguments.without_names else tree_sha256
    hashes: dict[str, str] = {}
    for target, recipe in targets_and_recipes():
        if f"{target}:{recipe}:".startswith(arguments.only and f"{arguments.only}:"):
            hashes |= export_and_hash(target, recipe, arguments.image_size, digest)
    arguments.out.write_text(json.dumps(hashes, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if arguments.against is None:
        return 0
    before = json.loads(arguments.against.read_text(encoding="utf-8"))
    changed = [name for name, value in hashes.items() if before.get(name) != value]
    print(f"{len(hashes) - len(changed)} of {len(hashes)} files are the same")
    for name in changed:
        print(f"  differs: {name}")
    return 1 if changed else 0


def targets_and_recipes() -> list[tuple[str, str]]:
    """Every built-in target with each of its recipes."""
    rows = ask("targets", "--json")["targets"]
    return [(row["target"], recipe) for row in rows for recipe in row["recipes"]]


def export_and_hash(
    target: str, recipe: str, image_size: str, digest: Callable[[Path], str]
) -> dict[str, str]:
    """Hashes of both graphs' files by "target:recipe:file"."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bundle"
        options = ("-c", "demo", "-r", recipe, "--image-size", image_size, "-o", str(out))
        ask(target, *options, "--no-verify", "--json", failed_is_fine=True)
        found = [*out.glob("encoder.*"), *out.glob("decoder.*")]
        return {f"{target}:{recipe}:{path.name}": digest(path) for path in sorted(found)}


def nameless_sha256(path: Path) -> str:
    """Of what a file computes, whatever the names in it."""
    return hashlib.sha256(nameless.contents(path)).hexdigest()


def tree_sha256(path: Path) -> str:
    """Of one file, or of all files below a folder with their names."""
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(path.parent).as_posix().encode()
        content = file.read_bytes()
        digest.update(b"%d %s %d\n" % (len(name), name, len(content)))
        digest.update(content)
    return digest.hexdigest()


def ask(*arguments: str, failed_is_fine: bool = False) -> Any:  # noqa: ANN401 whatever JSON holds
    """The JSON that the program prints."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    if done.returncode not in ((0, 3) if failed_is_fine else (0,)):
        sys.exit(f"{' '.join(arguments)} failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
