package mobilesam

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Matrix
import android.media.ExifInterface
import java.io.IOException
import java.io.InputStream

/**
 * Decode an image and turn it upright, as cameras store which way is up in EXIF only.
 *
 * @param open opens the image anew each time: it is read twice. Null is a missing image.
 * @throws UnreadableImageException it is no image that Android can decode.
 */
fun decodeUpright(open: () -> InputStream?): Bitmap {
    val orientation = opened(open) { ExifInterface(it).orientation }
    val stored = opened(open) { BitmapFactory.decodeStream(it) }
        ?: throw UnreadableImageException("the image cannot be decoded: give a JPEG, PNG, WebP or HEIF file")
    return if (orientation <= 1) stored else upright(stored, orientation)
}

private fun <T> opened(open: () -> InputStream?, body: (InputStream) -> T): T = try {
    (open() ?: throw UnreadableImageException("the image cannot be opened: is it still there?")).use(body)
} catch (exc: IOException) {
    throw UnreadableImageException("the image cannot be read: ${exc.message}", exc)
}

private val ExifInterface.orientation: Int
    get() = getAttributeInt(ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL)

private fun upright(stored: Bitmap, orientation: Int): Bitmap {
    val matrix = Matrix()
    when (orientation) {
        ExifInterface.ORIENTATION_FLIP_HORIZONTAL -> matrix.postScale(-1f, 1f)
        ExifInterface.ORIENTATION_ROTATE_180 -> matrix.postRotate(180f)
        ExifInterface.ORIENTATION_FLIP_VERTICAL -> matrix.postScale(1f, -1f)
        ExifInterface.ORIENTATION_TRANSPOSE -> { matrix.postRotate(90f); matrix.postScale(-1f, 1f) }
        ExifInterface.ORIENTATION_ROTATE_90 -> matrix.postRotate(90f)
        ExifInterface.ORIENTATION_TRANSVERSE -> { matrix.postRotate(270f); matrix.postScale(-1f, 1f) }
        ExifInterface.ORIENTATION_ROTATE_270 -> matrix.postRotate(270f)
        else -> return stored
    }
    return Bitmap.createBitmap(stored, 0, 0, stored.width, stored.height, matrix, true)
}

/** Give `body` the pixels; a HARDWARE bitmap has none to read and is copied for the while. */
internal fun readable(bitmap: Bitmap, body: (PixelRows) -> Unit) {
    if (bitmap.config != Bitmap.Config.HARDWARE) return body(BitmapRows(bitmap))
    val copy = bitmap.copy(Bitmap.Config.ARGB_8888, false)
        ?: throw UnreadableImageException("the HARDWARE bitmap cannot be copied: out of memory?")
    try {
        body(BitmapRows(copy))
    } finally {
        copy.recycle()
    }
}

private class BitmapRows(private val bitmap: Bitmap) : PixelRows {
    override val size = ImageSize(bitmap.width, bitmap.height)

    override fun read(y: Int, row: IntArray) = bitmap.getPixels(row, 0, size.width, 0, y, size.width, 1)
}

/** The mask as an overlay of the image's size: `color` (0xAARRGGBB) inside, transparent outside. */
fun Mask.toBitmap(color: Int): Bitmap {
    val pixels = IntArray(inside.size) { if (inside[it]) color else 0 }
    return Bitmap.createBitmap(pixels, size.width, size.height, Bitmap.Config.ARGB_8888)
}
