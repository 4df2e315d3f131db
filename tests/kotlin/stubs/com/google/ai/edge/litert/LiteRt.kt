// LiteRT 2.x's Kotlin API as far as the sample uses it, with golden vectors for a network.
package com.google.ai.edge.litert

import android.content.res.AssetManager
import java.nio.ByteBuffer
import standin.Model

class LiteRtException(message: String) : Exception(message)

enum class Accelerator { CPU, GPU }

class TensorBuffer internal constructor(private val size: Int) : AutoCloseable {
    internal var values = FloatArray(size)
    private var closed = false

    fun writeFloat(data: FloatArray) {
        check(!closed)
        if (data.size != size) throw LiteRtException("buffer of $size values, ${data.size} written")
        values = data.clone()
    }

    fun readFloat(): FloatArray {
        check(!closed)
        return values.clone()
    }

    override fun close() {
        closed = true
    }
}

class CompiledModel private constructor(private val model: Model) : AutoCloseable {
    class Options(internal val accelerators: Set<Accelerator>) {
        constructor(vararg accelerators: Accelerator) : this(setOf(*accelerators))
    }

    fun createInputBuffer(inputName: String, signature: String = ""): TensorBuffer = buffer(inputName, signature)

    fun createOutputBuffer(outputName: String, signature: String = ""): TensorBuffer = buffer(outputName, signature)

    fun run(inputs: Map<String, TensorBuffer>, outputs: Map<String, TensorBuffer>, signature: String = "") {
        model.checkSignature(signature)
        val answer = model.run(inputs.mapValues { it.value.values })
        outputs.forEach { (name, buffer) -> buffer.values = answer.getValue(name) }
    }

    override fun close() {}

    private fun buffer(name: String, signature: String): TensorBuffer {
        model.checkSignature(signature)
        return TensorBuffer(model.size(name))
    }

    companion object {
        fun create(assetManager: AssetManager, assetName: String, options: Options): CompiledModel {
            if (options.accelerators != setOf(Accelerator.GPU)) throw LiteRtException("not the GPU alone")
            if (!Model.gpu) throw LiteRtException("Some ops are not accelerated.")
            val bytes = assetManager.open(assetName).use { it.readBytes() }
            return CompiledModel(Model.of(ByteBuffer.wrap(bytes)))
        }
    }
}
