"""What a Core ML package says of itself."""

from collections.abc import Mapping
from typing import Any

from mobilesam_export.contract import GraphSpec


def describe(model: Any, spec: GraphSpec, metadata: Mapping[str, str]) -> None:
    """Put what `bundle.file_metadata` says, and what each tensor means, into an MLModel."""
    model.short_description = metadata["description"]
    model.author = metadata["author"]
    model.license = metadata["license"]
    model.version = metadata["version"]
    for item in spec.inputs:
        model.input_description[item.name] = item.meaning
    for item in spec.outputs:
        model.output_description[item.name] = item.meaning
    for key, value in metadata.items():
        model.user_defined_metadata[key] = value
