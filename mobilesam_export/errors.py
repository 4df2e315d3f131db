"""Every error that a user can meet, as one tree.

MobileSamExportError          exit 1
    CheckpointError           a checkpoint cannot be read, fetched, or is not MobileSAM
    TargetError               a target or recipe file is wrong, or there is none of that name
    PictureError              a picture cannot be read
    BackendError              a runtime is missing or fails
        ConversionError       a converter failed
    MissingPackageError       a package that this command needs is not installed
    BundleError               a bundle is damaged, foreign, or cannot be written
    InterruptedMeasurement    Ctrl-C; what had been measured is kept
    BudgetError               a budget or a file of measurements is wrong
    UsageError                exit 2: an argument that cannot be meant
    VerificationError         exit 3: a file does not compute what PyTorch computes

Messages are one line: what was expected, what was found, what to do.
"""


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


class MissingPackageError(MobileSamExportError):
    """A package that this command needs is not installed."""


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


def first_line(exc: BaseException, most: int = 300) -> str:
    """The first line of an exception's message, or its type where it has none.

    Args:
        exc: anyone's; messages of converters and runtimes can be pages long.
        most: characters that are kept.
    """
    lines = str(exc).strip().splitlines() or [type(exc).__name__]
    return lines[0][:most]
