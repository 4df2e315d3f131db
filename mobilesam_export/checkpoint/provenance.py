"""The checkpoint that a bundle was exported from. Needs no torch: running files reads it, too."""

from dataclasses import asdict, dataclass

RECOVERED_FOR = "recovered_for"  # key of a safetensors file's metadata: TARGET:RECIPE
MODEL = "MobileSAM"  # the architecture that weights have unless they say otherwise


@dataclass(frozen=True)
class Provenance:
    """Origin of weights; written into the manifest and into every file.

    Attributes:
        source: "official", "demo", "seeded:SALT", "seeded:STUDENT:SALT", or the name of a file
            (never its folder).
        file_sha256: hash of the file; empty for weights that need none, from a rule or shipped.
        weights_sha256: hash of names and float32 values, the same for every container.
        license: of the weights, as far as known.
        trained: whether masks are meaningful.
        entry: prefix of their names in the file, like "ema.module"; empty at its top.
        architecture: "MobileSAM" or "MobileSAM student, widths 32-64-96-160, depths ...".
        recovered_for: TARGET:RECIPE on whose grid the encoder's weights were trained to lie; "" for
            weights like any others.
    """

    source: str
    file_sha256: str
    weights_sha256: str
    license: str
    trained: bool
    entry: str = ""
    architecture: str = MODEL
    recovered_for: str = ""

    def describe(self) -> dict[str, str]:
        """The same as strings, for metadata fields of files, without what is as usual."""
        usual = {"entry": "", "architecture": MODEL, "recovered_for": ""}
        return {k: str(v) for k, v in asdict(self).items() if usual.get(k) != v}
