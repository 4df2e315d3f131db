// The Kotlin sample on a PC: `Main.kt FOLDER`, with the golden vectors and files of tests/test_kotlin_sample.py.
package mobilesam

import android.app.Instrumentation
import android.content.Context
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import androidx.test.platform.app.InstrumentationRegistry
import java.io.File
import kotlin.math.abs
import org.json.JSONObject
import org.tensorflow.lite.DataType
import standin.Model

private lateinit var folder: File
private val golden get() = folder.resolve("bundle/golden")
private val index get() = JSONObject(golden.resolve("golden.json").readText()).getJSONArray("images")
private val images get() = List(index.length()) { index.getJSONObject(it) }

/** Each check prints one line, `NAME ok` or `NAME failed: REASON`; the figures of golden before. */
fun main(arguments: Array<String>) {
    folder = File(arguments[0])
    Model.golden = golden.toPath()
    for ((name, check) in checks) {
        Model.imageType = DataType.UINT8
        Model.gpu = true
        try {
            check()
            println("$name ok")
        } catch (exc: Throwable) {
            println("$name failed: ${exc::class.simpleName} ${exc.message?.replace('\n', ' ')}")
        }
    }
}

private val checks = listOf<Pair<String, () -> Unit>>(
    "golden" to { MobileSam.open(app()).use(::answersGolden) },
    "golden_gpu" to { onGpu { answersGolden(it); expect("GPU", it.device) } },
    "gpu_refused" to {
        Model.gpu = false
        onGpu {
            answersGolden(it)
            expect("CPU", it.device)
            expect("Some ops are not accelerated.", it.fallback)
        }
    },
    "gpu_wrong_files" to ::wrongFilesAreNamedOnTheGpu,
    "gpu_of_uint8" to { expectError<IllegalArgumentException>("tflite-gpu") { MobileSam.open(app(), gpu = true) } },
    "self_test" to ::selfTestPasses,
    "self_test_damaged" to ::selfTestNamesADamagedMask,
    "instrumented" to ::instrumentedTestPasses,
    "embedding_kept" to ::embeddingIsKept,
    "warm_up" to ::warmUpIsNoImage,
    "orientations" to ::everyOrientationIsUpright,
    "hardware" to ::hardwareBitmapIsCopied,
    "overlay" to ::overlayIsOfTheImagesSize,
    "no_image" to {
        MobileSam.open(app()).use { expectError<NoImageException>("setImage") { it.segment(CLICK) } }
    },
    "image_failed" to ::failedImageLeavesNone,
    "empty_prompt" to { withImage { expectError<EmptyPromptException>("at least one point") { it.segment() } } },
    "too_many_points" to ::seventhClickIsRefused,
    "outside" to ::clicksOutsideAreRefused,
    "empty_box" to {
        withImage { expectError<EmptyBoxException>("left < right") { it.segment(box = Box(9f, 9f, 9f, 20f)) } }
    },
    "mask_of_another_image" to ::maskOfAnotherImageIsRefused,
    "not_an_image" to {
        expectError<UnreadableImageException>("cannot be decoded") { decodeUpright { "text".byteInputStream() } }
    },
    "missing_image" to { expectError<UnreadableImageException>("cannot be opened") { decodeUpright { null } } },
    "missing_file" to {
        expectError<WrongFileException>("decoder.tflite cannot be opened") { MobileSam.open(app("missing")) }
    },
    "damaged_file" to {
        expectError<WrongFileException>("encoder.tflite cannot be read") { MobileSam.open(app("damaged")) }
    },
    "swapped_files" to {
        expectError<WrongFileException>("encoder.tflite is no encoder (it has decoder)") { MobileSam.open(app("swapped")) }
    },
    "other_type" to {
        Model.imageType = DataType.FLOAT32
        expectError<WrongFileException>("encoder.tflite takes FLOAT32") { MobileSam.open(app()) }
    },
    "other_slots" to {
        val other = Contract(slots = 9)
        expectError<WrongFileException>("takes 6 points, not 9") { CpuRuntime(app().assets, other, 1) }
    },
    "closed" to {
        MobileSam.open(app()).let { it.close(); it.close(); expectError<IllegalStateException>("closed") { it.warmUp() } }
    },
)

private val CLICK = listOf(Point(5f, 5f))

private fun app(name: String = "assets") = Context(folder.resolve(name))

private fun onGpu(body: (MobileSam) -> Unit) {
    Model.imageType = DataType.FLOAT32
    MobileSam.open(app().assets, Contract(floatImage = true), gpu = true, threads = 1).use(body)
}

private fun wrongFilesAreNamedOnTheGpu() {
    Model.imageType = DataType.FLOAT32
    val said = mapOf(
        "missing" to "decoder.tflite cannot be opened",
        "damaged" to "encoder.tflite cannot be read",
        "swapped" to "encoder.tflite is no encoder (it has decoder)",
    )
    for ((files, words) in said) {
        expectError<WrongFileException>(words) {
            MobileSam.open(app(files).assets, Contract(floatImage = true), gpu = true, threads = 1)
        }
    }
}

private fun upright(image: JSONObject) = decodeUpright { golden.resolve(image.getString("file")).inputStream() }

private fun withImage(body: (MobileSam) -> Unit) = MobileSam.open(app()).use {
    it.setImage(upright(images[0]))
    body(it)
}

/** All prompts as an app would give them; the stand-in checks what reaches the files. */
private fun answersGolden(sam: MobileSam) {
    for (image in images) {
        sam.setImage(upright(image))
        val prompts = image.getJSONArray("prompts")
        var click: Mask? = null
        for (i in 0 until prompts.length()) {
            val prompt = prompts.getJSONObject(i)
            val name = prompt.getString("name")
            val previous = if (name == "click-mask") click else null
            val mask = sam.segment(prompt.points(), prompt.box(), previous)
            if (name == "click") click = mask
            val expected = BitmapFactory.decodeStream(golden.resolve(prompt.getString("mask")).inputStream())
            expect(ImageSize(expected.width, expected.height), mask.size)
            val iou = iou(mask.inside, expected.white())
            println("# iou ${image.getString("name")} $name $iou")
            if (iou < 0.999) error("IoU of $name is $iou")
            expect(prompt.chosenScore(), mask.score)
        }
        if (click == null) error("no click among the prompts")
    }
}

private fun JSONObject.points() = getJSONArray("points").let { points ->
    List(points.length()) {
        val point = points.getJSONArray(it)
        Point(point.getDouble(0).toFloat(), point.getDouble(1).toFloat(), point.getInt(2) == 1)
    }
}

private fun JSONObject.box(): Box? {
    if (isNull("box")) return null
    val corners = getJSONArray("box")
    val (left, top, right, bottom) = List(4) { corners.getDouble(it).toFloat() }
    return Box(left, top, right, bottom)
}

private fun JSONObject.chosenScore(): Float {
    val outputs = getJSONArray("outputs")
    val entry = List(outputs.length()) { outputs.getJSONObject(it) }.first { it.getString("name") == "iou_predictions" }
    val bytes = java.nio.ByteBuffer.wrap(golden.resolve(entry.getString("file")).readBytes())
    return bytes.order(java.nio.ByteOrder.LITTLE_ENDIAN).getFloat(4 * getInt("chosen_mask"))
}

private fun Bitmap.white(): BooleanArray {
    val pixels = IntArray(width * height)
    getPixels(pixels, 0, width, 0, 0, width, height)
    return BooleanArray(pixels.size) { pixels[it] and 255 > 127 }
}

private fun selfTestPasses() = MobileSam.open(app()).use { sam ->
    val report = sam.selfTest { folder.resolve("bundle").resolve(it).inputStream() }
    print("$report".lines().joinToString("") { "# $it\n" })
    expect(emptyList<String>(), report.failures)
    expect(images.size, report.images.size)
    report.images.forEach { if (it.preprocessingMax > 1) error("preprocessing off by ${it.preprocessingMax}") }
    expectError<NoImageException>("setImage") { sam.segment(CLICK) }
}

private fun selfTestNamesADamagedMask() = MobileSam.open(app()).use { sam ->
    val other = "golden/${images[0].getString("name")}/box/mask.png"
    val report = sam.selfTest {
        folder.resolve("bundle").resolve(if (it.endsWith("landscape/click/mask.png")) other else it).inputStream()
    }
    if (report.failures.none { "landscape, click: IoU" in it }) error("failures: ${report.failures}")
}

private fun instrumentedTestPasses() {
    InstrumentationRegistry.instrumentation = Instrumentation(app(), app("bundle"))
    GoldenTest().answersLikePyTorch()
}

private fun warmUpIsNoImage() = MobileSam.open(app()).use {
    it.warmUp()
    expectError<NoImageException>("setImage") { it.segment(CLICK) }
}

private fun embeddingIsKept() = withImage {
    val before = Model.runs
    val prompt = images[0].getJSONArray("prompts").getJSONObject(0)
    repeat(3) { _ -> it.segment(prompt.points(), prompt.box()) }
    expect(3, Model.runs - before)
}

private fun everyOrientationIsUpright() {
    val upright = decodeUpright { folder.resolve("orientation/1.jpg").inputStream() }
    val expected = IntArray(upright.width * upright.height)
    upright.getPixels(expected, 0, upright.width, 0, 0, upright.width, upright.height)
    for (orientation in 2..8) {
        val turned = decodeUpright { folder.resolve("orientation/$orientation.jpg").inputStream() }
        expect(ImageSize(upright.width, upright.height), ImageSize(turned.width, turned.height))
        val pixels = IntArray(expected.size)
        turned.getPixels(pixels, 0, turned.width, 0, 0, turned.width, turned.height)
        val apart = pixels.indices.maxOf { i ->
            listOf(16, 8, 0).maxOf { abs((pixels[i] shr it and 255) - (expected[i] shr it and 255)) }
        }
        if (apart > 8) error("orientation $orientation is off by $apart of 255")
    }
}

private fun hardwareBitmapIsCopied(): Unit = MobileSam.open(app()).use {
    it.setImage(upright(images[0]).copy(Bitmap.Config.HARDWARE, false))
    val prompt = images[0].getJSONArray("prompts").getJSONObject(0)
    expect(prompt.chosenScore(), it.segment(prompt.points(), prompt.box()).score)
}

private fun overlayIsOfTheImagesSize() {
    val mask = Mask(ImageSize(3, 1), booleanArrayOf(false, true, true), 1f, FloatArray(0))
    val pixels = IntArray(3)
    mask.toBitmap(0x7FFF0000).getPixels(pixels, 0, 3, 0, 0, 3, 1)
    expect(listOf(0, 0x7FFF0000, 0x7FFF0000), pixels.toList())
    expect(2, mask.area)
    expect(true, mask[1, 0])
}

private fun failedImageLeavesNone() = withImage {
    val unknown = Bitmap.createBitmap(IntArray(100) { 0x123456 }, 10, 10, Bitmap.Config.ARGB_8888)
    expectError<IllegalArgumentException>("no golden inputs") { it.setImage(unknown) }
    expectError<NoImageException>("setImage") { it.segment(CLICK) }
}

private fun seventhClickIsRefused() = withImage {
    expectError<TooManyPointsException>("takes 7 slots") { it.segment(List(7) { CLICK[0] }) }
    expectError<TooManyPointsException>("takes 7 slots") { it.segment(List(5) { CLICK[0] }, Box(0f, 0f, 9f, 9f)) }
    expect(6, it.maxPoints)
}

private fun clicksOutsideAreRefused() = withImage {
    for (point in listOf(Point(-1f, 5f), Point(5f, 1e6f), Point(Float.NaN, 5f))) {
        expectError<OutsideImageException>("is outside the image") { it.segment(listOf(point)) }
    }
    expectError<OutsideImageException>("is outside the image") { it.segment(box = Box(0f, 0f, 1e6f, 9f)) }
}

private fun maskOfAnotherImageIsRefused() = withImage {
    val other = Mask(ImageSize(1, 1), BooleanArray(1), 0f, FloatArray(Contract().maskSize))
    expectError<WrongMaskException>("of an image of 1 x 1") { it.segment(CLICK, previousMask = other) }
}

private fun <T> expect(expected: T, found: T) {
    if (expected != found) error("expected $expected, found $found")
}

private inline fun <reified E : Throwable> expectError(words: String, body: () -> Unit) {
    try {
        body()
    } catch (exc: Throwable) {
        if (exc !is E) throw exc
        if (words !in exc.message.orEmpty()) error("says: ${exc.message}")
        return
    }
    error("nothing was thrown")
}
