package mobilesam

/** A click, in pixels of the image from its top left corner. */
data class Point(val x: Float, val y: Float, val foreground: Boolean = true)

/** A box, in pixels of the image. */
data class Box(val left: Float, val top: Float, val right: Float, val bottom: Float)

/**
 * The decoder's inputs for one prompt.
 *
 * @property coords x then y of each slot, in pixels of the encoder's input.
 * @property labels 1 foreground, 0 background, 2 and 3 the box's corners, -1 an empty slot.
 * @property mask low-resolution logits of an earlier answer, or null.
 */
class DecoderInputs(val coords: FloatArray, val labels: FloatArray, val mask: FloatArray?)

/** The decoder's outputs: four masks of H/4 x W/4 logits, and the predicted IoU of each. */
class DecoderOutputs(val masks: FloatArray, val scores: FloatArray)

/** Check a prompt and put it into the decoder's slots. */
internal fun decoderInputs(
    points: List<Point>,
    box: Box?,
    previousMask: Mask?,
    size: ImageSize,
    contract: Contract,
): DecoderInputs {
    checkPrompt(points, box, previousMask, size, contract)
    val resized = size.resized(contract.input)
    val scaleX = resized.width.toDouble() / size.width
    val scaleY = resized.height.toDouble() / size.height
    val coords = FloatArray(2 * contract.slots)
    val labels = FloatArray(contract.slots) { -1f } // empty slots
    val filled = points.map { Triple(it.x, it.y, if (it.foreground) 1f else 0f) } +
        (box?.let { listOf(Triple(it.left, it.top, 2f), Triple(it.right, it.bottom, 3f)) }
            ?: emptyList())
    filled.forEachIndexed { slot, (x, y, label) ->
        coords[2 * slot] = (x * scaleX).toFloat()
        coords[2 * slot + 1] = (y * scaleY).toFloat()
        labels[slot] = label
    }
    return DecoderInputs(coords, labels, previousMask?.logits)
}

private fun checkPrompt(
    points: List<Point>, box: Box?, previousMask: Mask?, size: ImageSize, contract: Contract,
) {
    val found = points.size + if (box == null) 0 else 2
    if (found == 0 && previousMask == null) throw EmptyPromptException()
    if (found > contract.slots) throw TooManyPointsException(found, contract.slots)
    val corners = box?.let { listOf(Point(it.left, it.top), Point(it.right, it.bottom)) }
    for (point in points + corners.orEmpty()) {
        val inside = point.x in 0f..size.width.toFloat() && point.y in 0f..size.height.toFloat()
        if (!inside) throw OutsideImageException(point.x, point.y, size.width, size.height)
    }
    if (box != null && !(box.left < box.right && box.top < box.bottom)) throw EmptyBoxException(box)
    if (previousMask != null && previousMask.size != size) {
        throw WrongMaskException("${previousMask.size}", "$size")
    }
}

/**
 * Which of the four masks answers the prompt. One click is ambiguous (a shirt or the person?), so
 * that the best of masks 1, 2, 3 is taken; for everything else mask 0 is the answer.
 */
internal fun chosenMask(points: List<Point>, box: Box?, scores: FloatArray): Int =
    if (points.size == 1 && box == null) (1..3).maxBy { scores[it] } else 0
