"""Every error that a user can meet, as one tree.

MobileSamExportError          exit 1
    CheckpointError           a checkpoint cannot be read, fetched, or is not MobileSAM
    TargetError               a target or recipe file is wrong, or there is none of that name
    PictureError              a picture cannot be read
    BackendError              a runtime is missing or fails
        ConversionError       a converter failed
    BundleError               a bundle is damaged, foreign, or cannot be written
    InterruptedMeasurement    Ctrl-C; what had been measured is kept
    BudgetError               a budget or a file of measurements is wrong
    UsageError                exit 2: an argument that cannot be meant
    VerificationError         exit 3: a file does not compute what PyTorch computes

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
    """A target or recipe file is wrong, or there is none of that name."""


class PictureError(MobileSamExportError):
    """A picture cannot be read."""


class BackendError(MobileSamExportError):
    """A runtime is missing or fails."""


class ConversionError(BackendError):
    """A converter failed."""


class BundleError(MobileSamExportError):
    """A bundle is damaged, foreign, or cannot be written."""


class BudgetError(MobileSamExportError):
    """A budget or a file of measurements is wrong."""


class InterruptedMeasurement(MobileSamExportError):
    """Ctrl-C while measuring; what had been measured is kept."""


class UsageError(MobileSamExportError):
    """An argument that cannot be meant, such as a point outside the picture."""

    exit_code = 2


class VerificationError(MobileSamExportError):
    """A file does not compute what PyTorch computes."""

    exit_code = 3
