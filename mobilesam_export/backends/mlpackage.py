"""Core ML packages whose bytes never vary, of whichever backend writes them."""

import json
import uuid
from pathlib import Path

from mobilesam_export.quiet import quiet

# coremltools 9 leaves a map of debug handles for ExecuTorch beside the manifest, which does not
# list it.
STRAY = "executorch_debug_handle_mapping.json"


def make_reproducible(path: Path) -> None:
    """Replace the random names in a package's manifest, and write its maps in a fixed order.

    The package is then what its manifest lists and nothing else, readable by all: coremltools
    writes the program's file for its owner only (mode 0600).
    """
    (path / STRAY).unlink(missing_ok=True)
    manifest_path = path / "Manifest.json"
    manifest = json.loads(manifest_path.read_text())
    entries = manifest["itemInfoEntries"]
    names = {
        key: str(uuid.uuid5(uuid.NAMESPACE_URL, item["path"])) for key, item in entries.items()
    }
    manifest["itemInfoEntries"] = {names[key]: item for key, item in entries.items()}
    manifest["rootModelIdentifier"] = names[manifest["rootModelIdentifier"]]
    manifest_path.write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n")

    with quiet():
        from coremltools.proto import Model_pb2
    spec_path = path / "Data" / "com.apple.CoreML" / "model.mlmodel"
    spec = Model_pb2.Model.FromString(spec_path.read_bytes())
    spec_path.write_bytes(spec.SerializeToString(deterministic=True))
    for item in path.rglob("*"):
        item.chmod(0o755 if item.is_dir() else 0o644)
