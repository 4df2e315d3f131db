"""What Apple's ImageSegmenter wants beside an asset: a file that says which asset is which.

It opens a folder: `ModelBundle` of github.com/apple/coreai-models (commit 86b363d) reads
`metadata.json`, wants schema 0.2, kind "segmenter" and `assets.main`, and ignores the other files.
"""

import json

METADATA = "metadata.json"
SCHEMA = "0.2"


def metadata(name: str, suffix: str) -> str:
    """The text of that file.

    Args:
        name: of the model, for people.
        suffix: of the asset `segmenter`.
    """
    fields = {
        "metadata_version": SCHEMA,
        "kind": "segmenter",
        "name": name,
        "assets": {"main": f"segmenter{suffix}"},
    }
    return json.dumps(fields, indent=2) + "\n"
