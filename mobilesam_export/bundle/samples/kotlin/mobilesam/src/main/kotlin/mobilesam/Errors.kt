package mobilesam

/** What can go wrong by the input; each message says what was expected, found, and what to do. */
sealed class MobileSamException(message: String, cause: Throwable? = null) :
    Exception(message, cause)

/** `segment` was called before `setImage`. */
class NoImageException : MobileSamException("no image yet: call setImage before segment")

/** Neither a point, a box nor a previous mask. */
class EmptyPromptException :
    MobileSamException("nothing to segment: give at least one point, a box or a previous mask")

/** More points than the decoder has slots. */
class TooManyPointsException(val found: Int, val limit: Int) : MobileSamException(
    "the prompt takes $found slots (a box takes two) and this decoder has $limit: " +
        "leave out points, or export with --points $found"
)

/** A point or a corner of the box is not on the image. */
class OutsideImageException(val x: Float, val y: Float, width: Int, height: Int) :
    MobileSamException(
        "$x,$y is outside the image, which is $width x $height: give pixels of the image, not of the view"
    )

/** The box has no area. */
class EmptyBoxException(box: Box) : MobileSamException(
    "box $box is empty; expected left < right and top < bottom"
)

/** The previous mask is of an image of another size. */
class WrongMaskException(found: String, expected: String) : MobileSamException(
    "previousMask is of an image of $found, the image is $expected: pass a mask of this image"
)

/** The image cannot be decoded. */
class UnreadableImageException(message: String, cause: Throwable? = null) :
    MobileSamException(message, cause)

/** A file is missing, damaged, or not the one that this sample was written for. */
class WrongFileException(val file: String, reason: String, cause: Throwable? = null) :
    MobileSamException("$file $reason: copy it again from the bundle of this sample", cause)
