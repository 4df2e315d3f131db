package mobilesam

import android.content.res.AssetManager
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.LiteRtException
import com.google.ai.edge.litert.TensorBuffer

/**
 * LiteRT's CompiledModel on the GPU.
 *
 * With `Accelerator.GPU` alone LiteRT compiles a file only if every operation runs there, otherwise
 * it throws: with the CPU as second choice it would go on slowly and say nothing.
 *
 * @throws LiteRtException the device has no usable GPU, or it does not take the whole file.
 */
internal class GpuRuntime(assets: AssetManager, private val contract: Contract) : Runtime {
    override val device = "GPU"
    private val opened = mutableListOf<AutoCloseable>()
    private val encoder = open(assets, ENCODER)
    private val decoder = open(assets, DECODER)
    private val image = input(encoder, "image", "encoder")
    private val embedding = output(encoder, "image_embeddings", "encoder")
    private val inputs = listOf(
        "image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input"
    ).associateWith { input(decoder, it, "decoder") }
    private val outputs = listOf("low_res_masks", "iou_predictions")
        .associateWith { output(decoder, it, "decoder") }
    private var written: FloatArray? = null // the embedding that the decoder's input holds

    override fun encode(image: ByteArray): FloatArray {
        this.image.writeFloat(FloatArray(image.size) { (image[it].toInt() and 255).toFloat() })
        encoder.run(mapOf("image" to this.image), mapOf("image_embeddings" to embedding), "encoder")
        return embedding.readFloat()
    }

    override fun decode(embedding: FloatArray, inputs: DecoderInputs): DecoderOutputs {
        if (embedding !== written) {
            this.inputs.getValue("image_embeddings").writeFloat(embedding)
            written = embedding
        }
        val mask = inputs.mask
        this.inputs.getValue("point_coords").writeFloat(inputs.coords)
        this.inputs.getValue("point_labels").writeFloat(inputs.labels)
        this.inputs.getValue("mask_input").writeFloat(mask ?: FloatArray(contract.maskSize))
        this.inputs.getValue("has_mask_input").writeFloat(floatArrayOf(if (mask == null) 0f else 1f))
        decoder.run(this.inputs, outputs, "decoder")
        return DecoderOutputs(
            outputs.getValue("low_res_masks").readFloat(),
            outputs.getValue("iou_predictions").readFloat(),
        )
    }

    override fun close() = opened.asReversed().forEach { it.close() }

    private fun open(assets: AssetManager, name: String): CompiledModel =
        kept { CompiledModel.create(assets, name, CompiledModel.Options(Accelerator.GPU)) }

    private fun input(model: CompiledModel, name: String, signature: String): TensorBuffer =
        kept { model.createInputBuffer(name, signature) }

    private fun output(model: CompiledModel, name: String, signature: String): TensorBuffer =
        kept { model.createOutputBuffer(name, signature) }

    /** Closed with this runtime, or at once where opening the next one fails. */
    private fun <T : AutoCloseable> kept(create: () -> T): T =
        closingOnFailure(this) { create().also { opened += it } }
}
