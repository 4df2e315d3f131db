package mobilesam

import android.content.res.AssetManager
import java.io.FileInputStream
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import org.tensorflow.lite.DataType // LiteRT's Interpreter keeps this package
import org.tensorflow.lite.Interpreter

/** Runs the two files. Not thread-safe: `MobileSam` lets one caller in at a time. */
interface Runtime : AutoCloseable {
    /** Where it runs: "CPU" or "GPU". */
    val device: String

    /**
     * Run the encoder.
     *
     * @param image H x W x 3 bytes RGB.
     * @return the embedding, 256 x H/16 x W/16.
     */
    fun encode(image: ByteArray): FloatArray

    /** Run the decoder on an embedding. */
    fun decode(embedding: FloatArray, inputs: DecoderInputs): DecoderOutputs
}

/** LiteRT's Interpreter: on the CPU, by XNNPACK. */
internal class CpuRuntime(
    assets: AssetManager, private val contract: Contract, threads: Int,
) : Runtime {
    override val device = "CPU"
    private val encoder = open(assets, ENCODER, threads)
    private val decoder = closingOnFailure(encoder) { open(assets, DECODER, threads) }
    private val image = buffer(3 * contract.width * contract.height * if (contract.floatImage) 4 else 1)
    private val embedding = floats(contract.embeddingSize)
    private val masks = floats(4 * contract.maskSize)
    private val scores = floats(4)

    init {
        closingOnFailure(encoder) {
            closingOnFailure(decoder) {
                checkSignature(encoder, ENCODER, "encoder")
                checkSignature(decoder, DECODER, "decoder")
                checkTypes()
            }
        }
    }

    override fun encode(image: ByteArray): FloatArray {
        this.image.rewind()
        if (contract.floatImage) {
            for (value in image) this.image.putFloat((value.toInt() and 255).toFloat())
        } else {
            this.image.put(image)
        }
        embedding.rewind()
        encoder.runSignature(
            mapOf("image" to this.image.rewind()), mapOf("image_embeddings" to embedding), "encoder"
        )
        return embedding.values(contract.embeddingSize)
    }

    override fun decode(embedding: FloatArray, inputs: DecoderInputs): DecoderOutputs {
        masks.rewind()
        scores.rewind()
        decoder.runSignature(
            mapOf(
                "image_embeddings" to floats(embedding),
                "point_coords" to floats(inputs.coords),
                "point_labels" to floats(inputs.labels),
                "mask_input" to floats(inputs.mask ?: FloatArray(contract.maskSize)),
                "has_mask_input" to floats(floatArrayOf(if (inputs.mask == null) 0f else 1f)),
            ),
            mapOf("low_res_masks" to masks, "iou_predictions" to scores),
            "decoder",
        )
        return DecoderOutputs(masks.values(4 * contract.maskSize), scores.values(4))
    }

    override fun close() {
        encoder.close()
        decoder.close()
    }

    private fun checkSignature(model: Interpreter, file: String, name: String) {
        if (name !in model.signatureKeys) {
            val found = model.signatureKeys.joinToString().ifEmpty { "no signature" }
            throw WrongFileException(file, "is no $name (it has $found)")
        }
    }

    private fun checkTypes() {
        val image = encoder.getInputTensorFromSignature("image", "encoder")
        val type = if (contract.floatImage) DataType.FLOAT32 else DataType.UINT8
        val shape = intArrayOf(1, contract.height, contract.width, 3)
        if (image.dataType() != type || !image.shape().contentEquals(shape)) {
            val found = "${image.dataType()} ${image.shape().contentToString()}"
            throw WrongFileException(ENCODER, "takes $found, not $type ${shape.contentToString()}")
        }
        val slots = decoder.getInputTensorFromSignature("point_coords", "decoder").shape()[1]
        if (slots != contract.slots) {
            throw WrongFileException(DECODER, "takes $slots points, not ${contract.slots}")
        }
    }
}

private fun open(assets: AssetManager, name: String, threads: Int): Interpreter {
    val bytes = try {
        assets.openFd(name).use { file ->
            FileInputStream(file.fileDescriptor).channel.map(
                FileChannel.MapMode.READ_ONLY, file.startOffset, file.declaredLength
            )
        }
    } catch (exc: IOException) {
        throw WrongFileException(name, "cannot be opened in the assets (compressed or missing?)", exc)
    }
    return try {
        Interpreter(bytes, Interpreter.Options().setNumThreads(threads))
    } catch (exc: IllegalArgumentException) {
        throw WrongFileException(name, "cannot be read: ${exc.message}", exc)
    }
}

/** What `body` returns; where it throws, `resource` is closed before. */
internal inline fun <T> closingOnFailure(resource: AutoCloseable, body: () -> T): T = try {
    body()
} catch (exc: Exception) {
    resource.close()
    throw exc
}

private fun buffer(bytes: Int): ByteBuffer =
    ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())

private fun floats(count: Int): ByteBuffer = buffer(4 * count)

private fun floats(values: FloatArray): ByteBuffer =
    floats(values.size).apply { asFloatBuffer().put(values) }

private fun ByteBuffer.values(count: Int): FloatArray {
    rewind()
    return FloatArray(count).also { asFloatBuffer().get(it) }
}
