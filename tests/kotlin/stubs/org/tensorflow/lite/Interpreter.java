package org.tensorflow.lite;

import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.util.HashMap;
import java.util.Map;
import standin.Model;

/** LiteRT's interpreter, with golden vectors for a network. */
public final class Interpreter implements AutoCloseable {
    public static class Options {
        public Options setNumThreads(int threads) {
            return this;
        }
    }

    private final Model model;
    private boolean closed;

    public Interpreter(ByteBuffer file, Options options) {
        if (!file.isDirect()) throw new IllegalArgumentException("the model is not a direct buffer");
        model = Model.of(file);
    }

    public String[] getSignatureKeys() {
        return new String[] {model.signature};
    }

    public Tensor getInputTensorFromSignature(String input, String signature) {
        model.checkSignature(signature);
        return model.tensor(input);
    }

    public void runSignature(
            Map<String, Object> inputs, Map<String, Object> outputs, String signature) {
        if (closed) throw new IllegalStateException("closed");
        model.checkSignature(signature);
        Map<String, float[]> values = new HashMap<>();
        inputs.forEach((name, buffer) -> values.put(name, model.read(name, (ByteBuffer) buffer)));
        Map<String, float[]> answer = model.run(values);
        outputs.forEach((name, buffer) -> write((ByteBuffer) buffer, answer.get(name)));
    }

    private static void write(ByteBuffer buffer, float[] values) {
        FloatBuffer floats = buffer.asFloatBuffer();
        if (floats.remaining() != values.length) {
            throw new IllegalArgumentException(
                    "output has " + values.length + " values, its buffer " + floats.remaining());
        }
        floats.put(values);
    }

    @Override
    public void close() {
        closed = true;
    }
}
