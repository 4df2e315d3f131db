package mobilesam

import android.graphics.BitmapFactory
import java.io.InputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import kotlin.math.log10
import kotlin.math.max
import kotlin.math.sqrt
import org.json.JSONArray
import org.json.JSONObject

/** Opens a file of the bundle by its path, such as `golden/golden.json`. */
fun interface GoldenFiles {
    fun open(path: String): InputStream
}

/** How far this device is from PyTorch on one image of the bundle. */
class ImageFigures(
    val image: String,
    val preprocessingMax: Int,
    val preprocessingMean: Double,
    val embeddingPsnrDb: Double,
)

/** How far one prompt's answer is: the decoder on PyTorch's embedding, and the whole way from the image. */
class PromptFigures(val image: String, val prompt: String, val decoderIou: Double, val maskIou: Double)

/** What `MobileSam.selfTest` has measured, and which of the bundle's limits it exceeds. */
class SelfTest(
    val device: String,
    val images: List<ImageFigures>,
    val prompts: List<PromptFigures>,
    val failures: List<String>,
) {
    override fun toString(): String = buildString {
        appendLine("MobileSAM self-test on $device: ${if (failures.isEmpty()) "passed" else "FAILED"}")
        for (i in images) {
            appendLine(
                "${i.image}: preprocessing off by at most ${i.preprocessingMax} of 255 " +
                    "(mean %.3f), embedding %.1f dB".format(i.preprocessingMean, i.embeddingPsnrDb)
            )
        }
        for (p in prompts) {
            appendLine("${p.image}, ${p.prompt}: IoU %.4f, decoder alone %.4f".format(p.maskIou, p.decoderIou))
        }
        failures.forEach { appendLine("failed: $it") }
    }
}

/** Every image and prompt of the bundle, by each stage. */
internal fun selfTest(files: GoldenFiles, runtime: Runtime, contract: Contract): SelfTest {
    val limits = Limits(files.json("manifest.json").getJSONObject("limits"))
    val images = mutableListOf<ImageFigures>()
    val prompts = mutableListOf<PromptFigures>()
    for (image in files.json("golden/golden.json").getJSONArray("images").objects()) {
        val test = ImageTest(files, image, runtime, contract)
        images += test.figures
        prompts += image.getJSONArray("prompts").objects().map(test::prompt)
    }
    return SelfTest(runtime.device, images, prompts, limits.failures(images, prompts))
}

private class ImageTest(
    private val files: GoldenFiles,
    image: JSONObject,
    private val runtime: Runtime,
    private val contract: Contract,
) {
    private val name = image.getString("name")
    private val golden = image.getJSONObject("encoder")
    private val expected = tensor(golden.getJSONArray("outputs"), "image_embeddings")!!
    private val size: ImageSize
    private val embedding: FloatArray
    val figures: ImageFigures

    init {
        lateinit var input: ByteArray
        lateinit var found: ImageSize
        readable(decodeUpright { files.open("golden/${image.getString("file")}") }) {
            found = it.size
            input = encoderInput(it, contract)
        }
        size = found
        embedding = runtime.encode(input)
        val pixels = tensor(golden.getJSONArray("inputs"), "image")!!
        var sum = 0L
        var most = 0
        for (i in input.indices) {
            val apart = abs((input[i].toInt() and 255) - pixels[i].toInt())
            sum += apart
            most = max(most, apart)
        }
        figures = ImageFigures(name, most, sum.toDouble() / input.size, psnrDb(embedding, expected))
    }

    fun prompt(prompt: JSONObject): PromptFigures {
        val points = prompt.getJSONArray("points").arrays().map {
            Point(it.getDouble(0).toFloat(), it.getDouble(1).toFloat(), it.getInt(2) == 1)
        }
        val corners = if (prompt.isNull("box")) null else prompt.getJSONArray("box")
        val box = corners?.let { c ->
            val (left, top, right, bottom) = List(4) { c.getDouble(it).toFloat() }
            Box(left, top, right, bottom)
        }
        val previous = tensor(prompt.getJSONArray("inputs"), "mask_input")
            ?.let { Mask(size, BooleanArray(0), 0f, it) }
        val inputs = decoderInputs(points, box, previous, size, contract)
        val mask = files.bitmap("golden/${prompt.getString("mask")}")
        fun iouFrom(embedding: FloatArray): Double {
            val outputs = runtime.decode(embedding, inputs)
            return iou(finalMask(chosenMask(points, box, outputs.scores), size, outputs, contract).inside, mask)
        }
        return PromptFigures(name, prompt.getString("name"), iouFrom(expected), iouFrom(embedding))
    }

    /** A tensor of the bundle as floats, whatever its type; null if it is not listed. */
    private fun tensor(tensors: JSONArray, name: String): FloatArray? {
        val entry = tensors.objects().firstOrNull { it.getString("name") == name } ?: return null
        val bytes = files.open("golden/${entry.getString("file")}").use { it.readBytes() }
        if (entry.getString("dtype") == "uint8") {
            return FloatArray(bytes.size) { (bytes[it].toInt() and 255).toFloat() }
        }
        val floats = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
        return FloatArray(bytes.size / 4).also { floats.get(it) }
    }
}

/** The limits of each stage in `manifest.json`; what it does not limit is not judged. */
private class Limits(private val limits: JSONObject) {
    fun failures(images: List<ImageFigures>, prompts: List<PromptFigures>): List<String> =
        images.flatMap { i ->
            listOf(
                most("preprocessing", "max", "${i.image}: preprocessing", i.preprocessingMax.toDouble()),
                most("preprocessing", "mean", "${i.image}: preprocessing, mean", i.preprocessingMean),
                least("encoder", "psnr_db", "${i.image}: embedding, dB", i.embeddingPsnrDb),
            )
        }.plus(prompts.flatMap { p ->
            listOf(
                least("decoder", "iou", "${p.image}, ${p.prompt}: decoder alone, IoU", p.decoderIou),
                least("mask", "iou", "${p.image}, ${p.prompt}: IoU", p.maskIou),
            )
        }).filterNotNull()

    private fun most(stage: String, limit: String, what: String, found: Double): String? =
        judged(stage, limit, what, found) { found <= it }

    private fun least(stage: String, limit: String, what: String, found: Double): String? =
        judged(stage, limit, what, found) { found >= it }

    private fun judged(
        stage: String, limit: String, what: String, found: Double, holds: (Double) -> Boolean,
    ): String? {
        val value = limits.optJSONObject(stage)?.optDouble(limit) ?: return null
        return if (value.isNaN() || holds(value)) null else "$what is %.4f, limit %.4f".format(found, value)
    }
}

/** Peak signal-to-noise ratio in dB; the peak is the reference's largest absolute value. */
private fun psnrDb(found: FloatArray, expected: FloatArray): Double {
    var squares = 0.0
    var peak = 0.0
    for (i in expected.indices) {
        squares += (found[i] - expected[i]).toDouble().let { it * it }
        peak = max(peak, abs(expected[i]).toDouble())
    }
    return if (squares == 0.0) Double.POSITIVE_INFINITY
    else 20 * log10(peak / sqrt(squares / expected.size))
}

private fun GoldenFiles.json(path: String) =
    JSONObject(open(path).use { it.readBytes() }.toString(Charsets.UTF_8))

/** A golden mask: white is inside. */
private fun GoldenFiles.bitmap(path: String): BooleanArray {
    val bitmap = open(path).use { BitmapFactory.decodeStream(it) }
        ?: throw UnreadableImageException("$path cannot be decoded")
    val pixels = IntArray(bitmap.width * bitmap.height)
    bitmap.getPixels(pixels, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
    return BooleanArray(pixels.size) { pixels[it] and 255 > 127 }
}

private fun JSONArray.objects(): List<JSONObject> = List(length()) { getJSONObject(it) }

private fun JSONArray.arrays(): List<JSONArray> = List(length()) { getJSONArray(it) }
