package mobilesam

/**
 * The answer to a prompt.
 *
 * @property size of the image.
 * @property inside row by row, whether each pixel belongs to the mask.
 * @property score the model's own estimate of the mask's IoU, about 0..1.
 * @property logits S/4 x S/4; `segment` takes them back from `previousMask`.
 */
class Mask internal constructor(
    val size: ImageSize,
    val inside: BooleanArray,
    val score: Float,
    internal val logits: FloatArray,
) {
    /** Whether the pixel belongs to the mask. */
    operator fun get(x: Int, y: Int): Boolean = inside[y * size.width + x]

    /** How many pixels belong to it. */
    val area: Int get() = inside.count { it }
}

/** Intersection over union of two masks of one size; 1 if both are empty. */
internal fun iou(found: BooleanArray, expected: BooleanArray): Double {
    var both = 0
    var either = 0
    for (i in expected.indices) {
        if (found[i] && expected[i]) both++
        if (found[i] || expected[i]) either++
    }
    return if (either == 0) 1.0 else both.toDouble() / either
}
