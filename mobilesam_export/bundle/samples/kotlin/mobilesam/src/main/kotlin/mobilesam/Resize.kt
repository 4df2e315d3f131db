package mobilesam

import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min

/** Width and height in pixels. */
data class ImageSize(val width: Int, val height: Int) {
    /** The largest size of this shape that `room` holds, rounded half up. */
    fun resized(room: ImageSize): ImageSize {
        val factor = min(room.width.toDouble() / width, room.height.toDouble() / height)
        return ImageSize(
            max(1, (width * factor + 0.5).toInt()), max(1, (height * factor + 0.5).toInt())
        )
    }

    override fun toString() = "$width x $height"
}

/** Upright pixels, read row by row so that a large image needs no second copy. */
interface PixelRows {
    val size: ImageSize

    /** Write row `y` as 0xAARRGGBB into `row`, which holds `size.width` values. */
    fun read(y: Int, row: IntArray)
}

/**
 * The encoder's input: the image as large as it fits, top left, the rest filled.
 *
 * @return H x W x 3 bytes RGB, row by row.
 */
internal fun encoderInput(image: PixelRows, contract: Contract): ByteArray {
    val size = image.size.resized(contract.input)
    val narrow = resizedRows(image, size.width)
    val input = ByteArray(3 * contract.width * contract.height) { contract.fill[it % 3].toByte() }
    val taps = taps(image.size.height, size.height)
    val line = 3 * size.width
    for (y in 0 until size.height) {
        for (i in 0 until line) {
            val value = taps[y].sum { row -> narrow[row * line + i].toInt() and 255 }
            input[3 * contract.width * y + i] = value
        }
    }
    return input
}

/** All rows of the image at the new width: height x width x 3 bytes. */
private fun resizedRows(image: PixelRows, width: Int): ByteArray {
    val taps = taps(image.size.width, width)
    val row = IntArray(image.size.width)
    val result = ByteArray(image.size.height * width * 3)
    var to = 0
    for (y in 0 until image.size.height) {
        image.read(y, row)
        for (tap in taps) {
            result[to++] = tap.sum { row[it] shr 16 and 255 }
            result[to++] = tap.sum { row[it] shr 8 and 255 }
            result[to++] = tap.sum { row[it] and 255 }
        }
    }
    return result
}

/** Bits of a filter's weights, as in Pillow: with whole numbers, ties are rounded as there. */
private const val PRECISION = 22

/** The source pixels of one result pixel, from `first` on, and their weights. */
private class Taps(val first: Int, val weights: IntArray) {
    inline fun sum(value: (Int) -> Int): Byte {
        var sum = 1 shl (PRECISION - 1) // rounds half up
        for (i in weights.indices) sum += weights[i] * value(first + i)
        return min(255, sum shr PRECISION).toByte()
    }
}

/**
 * A bilinear filter that antialiases: a triangle that is as wide as a result pixel where the image
 * shrinks. Platform filters (FILTER_BITMAP_FLAG) read four neighbours only, and skip the rest.
 */
private fun taps(from: Int, to: Int): List<Taps> {
    val scale = from.toDouble() / to
    val reach = max(scale, 1.0)
    return List(to) {
        val center = (it + 0.5) * scale
        val first = max(0, (center - reach + 0.5).toInt())
        val end = min(from, (center + reach + 0.5).toInt())
        val weights = DoubleArray(end - first) { i ->
            max(0.0, 1 - abs((first + i + 0.5 - center) / reach))
        }
        val total = weights.sum()
        val whole = 1 shl PRECISION
        Taps(first, IntArray(weights.size) { i -> (weights[i] / total * whole + 0.5).toInt() })
    }
}

/**
 * Low-resolution logits to a mask of the image's size: bilinear to H x W, without the padding, on to
 * the image's size, and only then thresholded at 0. Thresholding first gives jagged edges.
 */
internal fun upscaled(logits: FloatArray, size: ImageSize, contract: Contract): BooleanArray {
    val (width, height) = contract.input
    val inner = size.resized(contract.input)
    val full = bilinear(logits, width / 4, height / 4, width, height)
    val mask = BooleanArray(size.width * size.height)
    val columns = places(inner.width, size.width)
    val rows = places(inner.height, size.height)
    val line = FloatArray(inner.width)
    for (y in 0 until size.height) {
        rows.mix(y, width, full, line)
        for (x in 0 until size.width) mask[y * size.width + x] = columns.at(x, line) > 0
    }
    return mask
}

private fun bilinear(values: FloatArray, width: Int, height: Int, toWidth: Int, toHeight: Int): FloatArray {
    val columns = places(width, toWidth)
    val rows = places(height, toHeight)
    val line = FloatArray(width)
    val result = FloatArray(toWidth * toHeight)
    for (y in 0 until toHeight) {
        rows.mix(y, width, values, line)
        for (x in 0 until toWidth) result[y * toWidth + x] = columns.at(x, line)
    }
    return result
}

/** For each result pixel, its two neighbours `low` and `high` and how near it is to the second. */
private class Places(val low: IntArray, val high: IntArray, val part: FloatArray) {
    fun at(index: Int, line: FloatArray): Float {
        val first = line[low[index]]
        return first + (line[high[index]] - first) * part[index]
    }

    /** Row `index` of the result, from an image whose rows are `stride` long, into `line`. */
    fun mix(index: Int, stride: Int, values: FloatArray, line: FloatArray) {
        val top = low[index] * stride
        val bottom = high[index] * stride
        for (x in line.indices) {
            line[x] = values[top + x] + (values[bottom + x] - values[top + x]) * part[index]
        }
    }
}

/** Centers of pixels correspond (align_corners=False), as in PyTorch's interpolate. */
private fun places(from: Int, to: Int): Places {
    val scale = from.toFloat() / to
    val exact = FloatArray(to) { ((it + 0.5f) * scale - 0.5f).coerceIn(0f, from - 1f) }
    val low = IntArray(to) { exact[it].toInt() }
    return Places(low, IntArray(to) { min(low[it] + 1, from - 1) }, FloatArray(to) { exact[it] - low[it] })
}
