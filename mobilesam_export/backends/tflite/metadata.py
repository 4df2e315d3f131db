"""Metadata in the standard of TFLite: what a file is, and how its tensors are to be filled.

The standard is a flatbuffer (root ModelMetadata, identifier M001) in a buffer of the model, and
associated files in a ZIP archive behind it. Its original writer, tflite-support, cannot be
installed beside current packages any more, so it is written with `flatbuffers`; a test has
tflite-support's own reader read it. Field numbers are those of metadata_schema.fbs, version 1.5.
"""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

from mobilesam_export.contract import Contract, GraphSpec, TensorSpec

IDENTIFIER = b"M001"
MIN_PARSER_VERSION = "1.5.0"  # the first with custom metadata
PROJECT = "mobilesam-export"
PROVENANCE = "mobilesam-export.json"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that ZIP knows: the same input gives the same bytes
UNKNOWN, AXIS_LABELS = 0, 2  # AssociatedFileType
FEATURE, IMAGE = 1, 2  # ContentProperties
NORMALIZATION = 1  # ProcessUnitOptions
RGB = 1  # ColorSpaceType

# Files of labels, in the order of an axis. Of outputs only: tflite-support warns of others.
LABELS = {
    "low_res_masks": (
        "mask_labels.txt",
        AXIS_LABELS,
        "single answer\nmulti-mask answer 1\nmulti-mask answer 2\nmulti-mask answer 3\n",
    ),
}
# (min, max) of what goes in or comes out, where that is known.
RANGES = {
    "image": (0.0, 255.0),
    "point_labels": (-1.0, 3.0),
    "has_mask_input": (0.0, 1.0),
}

Builder = Any  # flatbuffers.Builder, untyped
Field = tuple[str, Any]  # a method of Builder that prepends a slot, by its last word, and a value


def build(spec: GraphSpec, metadata: Mapping[str, str], contract: Contract) -> bytes:
    """The ModelMetadata of one file.

    Args:
        spec: its interface, in the order of its tensors.
        metadata: what the file says about itself; see `bundle.file_metadata`. What the standard
            has no field for stands in custom metadata, as JSON.
        contract: of the bundle.
    """
    import flatbuffers

    builder = flatbuffers.Builder(4096)
    provenance = json.dumps(dict(sorted(metadata.items())), indent=2).encode()
    custom = _table(builder, 2, {0: _text(builder, PROJECT), 1: _bytes(builder, provenance)})
    files = _vector(builder, [_associated_file(builder, PROVENANCE, UNKNOWN, "provenance, JSON")])
    graph = _table(
        builder,
        10,
        {
            0: _text(builder, spec.name),
            2: _tensors(builder, spec.inputs, contract),
            3: _tensors(builder, spec.outputs, contract),
            9: _vector(builder, [custom]),
        },
    )
    root = _table(
        builder,
        8,
        {
            0: _text(builder, f"MobileSAM {spec.name}"),
            1: _text(builder, metadata["description"]),
            2: _text(builder, metadata["version"]),
            3: _vector(builder, [graph]),
            4: _text(builder, metadata["author"]),
            5: _text(builder, metadata["license"]),
            6: files,
            7: _text(builder, MIN_PARSER_VERSION),
        },
    )
    builder.Finish(root, file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def associated_files(spec: GraphSpec, metadata: Mapping[str, str]) -> bytes:
    """A ZIP archive of the files that the metadata names, to stand behind the model."""
    contents = {PROVENANCE: json.dumps(dict(sorted(metadata.items())), indent=2) + "\n"}
    for tensor in (*spec.inputs, *spec.outputs):
        if tensor.name in LABELS:
            name, _, text = LABELS[tensor.name]
            contents[name] = text
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, text in sorted(contents.items()):
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system = 3  # Unix, wherever it is written
            archive.writestr(info, text)
    return sink.getvalue()


def _tensors(builder: Builder, specs: Sequence[TensorSpec], contract: Contract) -> Field:
    return _vector(builder, [_tensor(builder, spec, contract) for spec in specs])


def _tensor(builder: Builder, spec: TensorSpec, contract: Contract) -> int:
    slots = {
        0: _text(builder, spec.name),
        1: _text(builder, spec.meaning),
        3: ("UOffsetTRelative", _content(builder, spec, contract)),
    }
    if spec.name == "image":  # as far as the standard asks: the file normalises by itself
        slots[4] = _vector(builder, [_normalization(builder, mean=0.0, std=1.0)])
    if spec.name in RANGES:
        low, high = RANGES[spec.name]
        stats = _table(builder, 2, {0: _floats(builder, [high]), 1: _floats(builder, [low])})
        slots[5] = ("UOffsetTRelative", stats)
    if spec.name in LABELS:
        name, kind, _ = LABELS[spec.name]
        slots[6] = _vector(builder, [_associated_file(builder, name, kind, f"of {spec.name}")])
    return _table(builder, 7, slots)


def _content(builder: Builder, spec: TensorSpec, contract: Contract) -> int:
    if spec.name != "image":
        properties = _table(builder, 0, {})
        return _table(builder, 3, {0: ("Uint8", FEATURE), 1: ("UOffsetTRelative", properties)})
    width, height = contract.size.width, contract.size.height
    size = _table(builder, 2, {0: ("Uint32", width), 1: ("Uint32", height)})
    properties = _table(builder, 2, {0: ("Int8", RGB), 1: ("UOffsetTRelative", size)})
    return _table(builder, 3, {0: ("Uint8", IMAGE), 1: ("UOffsetTRelative", properties)})


def _normalization(builder: Builder, mean: float, std: float) -> int:
    options = _table(builder, 2, {0: _floats(builder, [mean]), 1: _floats(builder, [std])})
    unit = {0: ("Uint8", NORMALIZATION), 1: ("UOffsetTRelative", options)}
    return _table(builder, 2, unit)


def _associated_file(builder: Builder, name: str, kind: int, description: str) -> int:
    slots = {0: _text(builder, name), 1: _text(builder, description), 2: ("Int8", kind)}
    return _table(builder, 5, slots)


def _table(builder: Builder, slots: int, fields: Mapping[int, Field]) -> int:
    """One table; what is not given keeps its default."""
    builder.StartObject(slots)
    for slot, (kind, value) in fields.items():
        getattr(builder, f"Prepend{kind}Slot")(slot, value, 0)
    return int(builder.EndObject())


def _text(builder: Builder, value: str) -> Field:
    return "UOffsetTRelative", builder.CreateString(value)


def _bytes(builder: Builder, value: bytes) -> Field:
    return "UOffsetTRelative", builder.CreateByteVector(value)


def _floats(builder: Builder, values: Sequence[float]) -> Field:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return "UOffsetTRelative", builder.EndVector()


def _vector(builder: Builder, offsets: Sequence[int]) -> Field:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return "UOffsetTRelative", builder.EndVector()
