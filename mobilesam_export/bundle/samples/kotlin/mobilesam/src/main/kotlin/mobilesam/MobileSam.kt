package mobilesam

import android.content.Context
import android.content.res.AssetManager
import android.graphics.Bitmap

/**
 * Segments what a user points at: `setImage` once per image (slow), `segment` once per prompt (fast).
 *
 * Threads: every method blocks while it computes, so call none on the main thread. Calls from several
 * threads wait for each other; one background thread (or `Dispatchers.Default.limitedParallelism(1)`)
 * is best.
 *
 * ```
 * MobileSam.open(context).use { sam ->
 *     sam.setImage(decodeUpright { context.contentResolver.openInputStream(uri) })
 *     val mask = sam.segment(listOf(Point(320f, 240f)))
 *     val better = sam.segment(listOf(Point(320f, 240f), Point(100f, 80f, false)), previousMask = mask)
 * }
 * ```
 *
 * @property fallback why the CPU is used although the GPU was wanted, or null.
 */
class MobileSam internal constructor(
    private val runtime: Runtime,
    private val contract: Contract,
    val fallback: String? = null,
) : AutoCloseable {
    private class Embedded(val size: ImageSize, val embedding: FloatArray)

    private var image: Embedded? = null
    private var closed = false

    /** Where the files run: "GPU" or "CPU". */
    val device: String get() = runtime.device

    /** Most points of a prompt; a box takes two. */
    val maxPoints: Int get() = contract.slots

    /**
     * Encode an image; the embedding is kept until the next one.
     *
     * The image has to be upright: apply EXIF rotation before, as `decodeUpright` does. HARDWARE
     * bitmaps are copied.
     */
    fun setImage(bitmap: Bitmap) = exclusively {
        image = null // if encoding fails, no mask of the image before
        readable(bitmap) { image = embed(it) }
    }

    /**
     * The mask of what the user points at.
     *
     * @param points clicks, in pixels of the image (not of the view that shows it).
     * @param box in pixels of the image.
     * @param previousMask the answer to refine: pass it with all points so far and a new one.
     * @throws MobileSamException the prompt has no answer, or there is no image yet.
     */
    @JvmOverloads
    fun segment(
        points: List<Point> = emptyList(), box: Box? = null, previousMask: Mask? = null,
    ): Mask = exclusively {
        val image = image ?: throw NoImageException()
        val inputs = decoderInputs(points, box, previousMask, image.size, contract)
        answer(points, box, image.size, runtime.decode(image.embedding, inputs))
    }

    /** Run both files once on nothing, so that the first real call is as fast as the next ones. */
    fun warmUp() = exclusively {
        val embedding = runtime.encode(ByteArray(3 * contract.width * contract.height))
        val click = listOf(Point(0f, 0f))
        runtime.decode(embedding, decoderInputs(click, null, null, contract.input, contract))
        Unit
    }

    /**
     * Compare this device with PyTorch's answers in the bundle. Forgets the image.
     *
     * @param golden `manifest.json` and the folder `golden` of the bundle.
     * @return what was measured, with the failures; see `SelfTest.failures`.
     */
    fun selfTest(golden: GoldenFiles): SelfTest = exclusively {
        image = null
        selfTest(golden, runtime, contract)
    }

    /** Free both files; afterwards every call throws IllegalStateException. */
    override fun close() {
        synchronized(this) {
            if (!closed) runtime.close()
            closed = true
            image = null
        }
    }

    private fun embed(rows: PixelRows) =
        Embedded(rows.size, runtime.encode(encoderInput(rows, contract)))

    private fun answer(
        points: List<Point>, box: Box?, size: ImageSize, outputs: DecoderOutputs,
    ): Mask = finalMask(chosenMask(points, box, outputs.scores), size, outputs, contract)

    private fun <T> exclusively(body: () -> T): T = synchronized(this) {
        check(!closed) { "this MobileSam is closed: open another" }
        body()
    }

    companion object {
        /**
         * Load both files from the assets; seconds, so not on the main thread.
         *
         * @param gpu by default what the files were written for. Where the GPU does not take both
         *   files as a whole, the CPU is used, and `fallback` says why.
         * @param threads of the CPU; by default 4, about the fast cores of a phone.
         * @throws WrongFileException a file is missing, damaged or another one.
         */
        @JvmStatic
        @JvmOverloads
        fun open(context: Context, gpu: Boolean = Contract().floatImage, threads: Int = 4): MobileSam =
            open(context.assets, Contract(), gpu, threads)

        internal fun open(
            assets: AssetManager, contract: Contract, gpu: Boolean, threads: Int,
        ): MobileSam {
            if (!gpu) return MobileSam(CpuRuntime(assets, contract, threads), contract)
            require(contract.floatImage) { "a uint8 encoder runs on the CPU: export tflite-gpu for GPUs" }
            return try {
                MobileSam(GpuRuntime(assets, contract), contract)
            } catch (exc: Exception) { // of a wrong file, too, which the CPU's runtime then names
                MobileSam(CpuRuntime(assets, contract, threads), contract, exc.message ?: "$exc")
            }
        }
    }
}

/** The chosen mask at the image's size. */
internal fun finalMask(
    index: Int, size: ImageSize, outputs: DecoderOutputs, contract: Contract,
): Mask {
    val from = index * contract.maskSize
    val logits = outputs.masks.copyOfRange(from, from + contract.maskSize)
    return Mask(size, upscaled(logits, size, contract), outputs.scores[index], logits)
}
