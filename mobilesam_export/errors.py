"""Every error that a user can meet, as one tree.

MobileSamExportError          exit 1
    CheckpointError           a checkpoint cannot be read, fetched, or is not MobileSAM
    TargetError               a target or recipe file is wrong, or there is none of that name
    ImageError                an image cannot be read
    BackendError              a runtime is missing or fails
        ConversionError       a converter failed
    MissingPackageError       a package that this command needs is not installed
    BundleError               a bundle is damaged or foreign
    BudgetError               a budget file is wrong, or there is none of that name
    MeasurementError          measurements are missing, damaged, foreign, or of another version
    InterruptedMeasurement    Ctrl-C while measuring; the times so far are kept
    DistillationError         training cannot go on; what it has reached is kept
    ClusterError              there is no such Ray cluster, or it gives up
    OutputError               a result cannot be written
    VerificationError         exit 3: files do not compute what PyTorch computes; Python API only
    UsageError                exit 2: an argument is out of range or contradicts another

Exit 3 (the work was done, but a tolerance, budget or gate is broken) is no error on the command
line: the command returns it after it has printed its result.

Messages are one line: what was expected, what was found, what to do.
"""

LONGEST_QUOTE = 120  # characters; a path of a field report fits


def one_line(text: object, limit: int = LONGEST_QUOTE) -> str:
    """Text of a file or a library as part of a message: one line that any terminal can print.

    Args:
        text: converted by `str`; control characters and lone surrogates are escaped.
        limit: characters from which on it is cut short.
    """
    try:
        line = " ".join(str(text).split())
    except (RecursionError, ValueError):  # nested too deeply, or an integer of too many digits
        line = f"<{type(text).__name__}>"
    if len(line) > limit:
        line = f"{line[:limit]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


class MobileSamExportError(Exception):
    """Base of all errors; `exit_code` is what the command line returns."""

    exit_code = 1


class CheckpointError(MobileSamExportError):
    """A checkpoint cannot be read, fetched, or is not MobileSAM."""


class TargetError(MobileSamExportError):
    """A target or recipe file is wrong, or there is none of that name.

    Args:
        message: what is wrong.
        keys: the place in the file, from the table that was being read (such as "quantize",
            "gelu"): whoever knows the file adds its name and the line, see `Target.located`.
    """

    def __init__(self, message: str, *keys: str) -> None:
        super().__init__(message)
        self.keys = keys


class ImageError(MobileSamExportError):
    """An image cannot be read."""


class BackendError(MobileSamExportError):
    """A runtime is missing or fails."""


class MissingPackageError(MobileSamExportError):
    """A package that this command needs is not installed."""


class ConversionError(BackendError):
    """A converter failed."""


class BundleError(MobileSamExportError):
    """A bundle is damaged or foreign."""


class BudgetError(MobileSamExportError):
    """A budget file is wrong, or there is none of that name."""


class MeasurementError(MobileSamExportError):
    """Measurements are missing, damaged, foreign, or of another version."""


class InterruptedMeasurement(MobileSamExportError):
    """Ctrl-C while measuring; the times so far are kept."""


class DistillationError(MobileSamExportError):
    """Training cannot go on: a loss that is not finite, or Ctrl-C. What it has reached is kept."""


class ClusterError(MobileSamExportError):
    """There is no such Ray cluster, or it gives up; what it has done is kept."""


class OutputError(MobileSamExportError):
    """A result cannot be written."""


class VerificationError(MobileSamExportError):
    """Files do not compute what PyTorch computes; `mobilesam_export.export` raises it."""

    exit_code = 3


class UsageError(MobileSamExportError):
    """An argument is out of range or contradicts another, such as a point outside the image."""

    exit_code = 2


def first_line(exc: BaseException, limit: int = 300) -> str:
    """What an exception of a library says, shortened to one line for a message of ours.

    Args:
        exc: any exception; its message may be empty or have many lines.
        limit: most characters of the line.

    Returns:
        The first line that is not blank, or the name of the class if there is none.
    """
    lines = (line.strip() for line in str(exc).splitlines())
    return next(filter(None, lines), type(exc).__name__)[:limit]
