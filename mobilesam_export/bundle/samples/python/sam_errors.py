"""What `mobilesam` raises; each message says what was expected, found, and what to do."""


class MobileSAMError(Exception):
    """The base of all errors here."""


class BundleFileError(MobileSAMError):
    """A file of the bundle is missing, damaged, or cannot be loaded."""


class ImageError(MobileSAMError):
    """What was given is not an image that can be read."""


class NoImageError(MobileSAMError):
    """`segment` was called before `set_image`."""


class PromptError(MobileSAMError):
    """The prompt is empty, outside the image, or of a wrong form."""


class TooManyPointsError(PromptError):
    """The decoder has fewer slots than the prompt takes; a box takes two."""
