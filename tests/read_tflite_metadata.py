"""Run by another Python, one that has tflite-support 0.4.4: what that reads in a file, as JSON.

python read_tflite_metadata.py FILE      prints the metadata and the names of associated files
python read_tflite_metadata.py FILE DIR  has its code generator write a Java class into DIR
"""

# mypy: ignore-errors
import ctypes
import json
import sys
from pathlib import Path

import libusb_package  # its native parts are linked to libusb, for accelerators on USB

ctypes.CDLL(str(libusb_package.get_library_path()), ctypes.RTLD_GLOBAL)


def read(path: str) -> dict[str, object]:
    from tensorflow_lite_support.metadata.python import metadata

    shown = metadata.MetadataDisplayer.with_model_file(path)
    names = shown.get_packed_associated_file_list()
    return {
        "metadata": json.loads(shown.get_metadata_json()),
        "minimum_parser_version": _minimum_parser_version(shown.get_metadata_buffer()),
        "files": {name: shown.get_associated_file_buffer(name).decode() for name in names},
    }


def _minimum_parser_version(buffer: bytes) -> str:
    from tensorflow_lite_support.metadata.cc.python import _pywrap_metadata_version

    return str(_pywrap_metadata_version.GetMinimumMetadataParserVersion(bytes(buffer)))


def generate(path: str, folder: str) -> dict[str, object]:
    from tensorflow_lite_support.codegen.python import _pywrap_codegen

    generator = _pywrap_codegen.AndroidJavaGenerator(folder)
    content = Path(path).read_bytes()
    result = generator.generate(content, "org.example.sam", "MobileSam", Path(path).name)
    return {
        "error": generator.get_error_message(),
        "files": {item.path: item.content for item in result.files},
    }


if __name__ == "__main__":
    found = read(sys.argv[1]) if len(sys.argv) == 2 else generate(sys.argv[1], sys.argv[2])
    sys.stdout.write(json.dumps(found))
