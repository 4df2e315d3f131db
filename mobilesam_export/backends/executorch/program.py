"""A .pte file, read only after it was found whole."""

import struct
from pathlib import Path

from mobilesam_export.errors import BackendError, BundleError

METHOD = "forward"
RELEASE = "1.5.1"  # of executorch, which writes the files
IDENTIFIER = slice(4, 8)  # of flatbuffers: "ET" and the version of the format
VERSION = b"ET12"  # what executorch 1.5.1 writes and reads
EXTENDED = b"eh00"  # then, from byte 12 on: its length, sizes of the program and of the segments
HEADER = struct.Struct("<4x4s4sIQQQ")


def check_whole(path: Path) -> bytes:
    """The content of a whole file.

    Raises:
        BundleError: it is damaged, or no ExecuTorch program.
        BackendError: it is of another version of the format.
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise BundleError(f"{path} cannot be read ({exc.strerror or exc})") from exc
    identifier = content[IDENTIFIER]
    if identifier[:2] != VERSION[:2]:
        raise BundleError(f"{path} is no ExecuTorch program: it lacks the identifier ET12")
    if identifier != VERSION:
        raise BackendError(
            f"{path} has version {identifier[2:].decode('ascii', 'replace')} of the format, "
            f"expected {VERSION[2:].decode()}: install the executorch that made it, or export again"
        )
    if len(content) < HEADER.size:
        raise BundleError(f"{path} is damaged: it ends in its header; copy it again, or export it")
    _, magic, _, program, base, segments = HEADER.unpack_from(content)
    if magic != EXTENDED:
        raise BundleError(f"{path} is damaged: it has no extended header; export it again")
    expected = base + segments if base else program
    if len(content) < expected:
        raise BundleError(
            f"{path} is damaged: it has {len(content):,} bytes of {expected:,}; copy it again, or "
            "export it"
        )
    return content
