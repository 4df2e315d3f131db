import CoreAI
import Foundation

/// The two files, run by Core AI.
final class Runtime {
    private let encoder: InferenceFunction
    private let decoder: InferenceFunction
    private let contract: Contract

    init(encoder: URL, decoder: URL, options: SpecializationOptions, contract: Contract) async throws {
        self.contract = contract
        self.encoder = try await Self.load(encoder, options)
        self.decoder = try await Self.load(decoder, options)
        try Self.check(
            self.encoder, encoder, input: "image", is: "encoder",
            shape: [1, contract.input.height, contract.input.width, 3])
        try Self.check(
            self.decoder, decoder, input: "point_coords", is: "decoder", shape: [1, contract.slots, 2])
    }

    /// Run the encoder.
    ///
    /// - Parameter image: H x W x 3 bytes RGB.
    /// - Returns: the embedding, 256 x H/16 x W/16.
    func encode(_ image: [UInt8]) async throws -> [Float] {
        var outputs = try await encoder.run(inputs: ["image": array("image", of: encoder, image)])
        return try values(outputs.remove("image_embeddings")?.ndArray, "image_embeddings", ModelFile.encoder)
    }

    /// Run the decoder on an embedding.
    func decode(_ embedding: [Float], _ inputs: DecoderInputs) async throws -> DecoderOutputs {
        let mask = inputs.mask ?? [Float](repeating: 0, count: contract.maskSize)
        let given: [String: [Float]] = [
            "image_embeddings": embedding,
            "point_coords": inputs.coords,
            "point_labels": inputs.labels,
            "mask_input": mask,
            "has_mask_input": [inputs.mask == nil ? 0 : 1],
        ]
        var arrays: [String: NDArray] = [:]
        for (name, floats) in given { arrays[name] = try array(name, of: decoder, floats) }
        var outputs = try await decoder.run(inputs: arrays)
        return DecoderOutputs(
            masks: try values(outputs.remove("low_res_masks")?.ndArray, "low_res_masks", ModelFile.decoder),
            scores: try values(outputs.remove("iou_predictions")?.ndArray, "iou_predictions", ModelFile.decoder))
    }

    private static func load(_ url: URL, _ options: SpecializationOptions) async throws -> InferenceFunction {
        guard FileManager.default.fileExists(atPath: url.path) else {
            throw MobileSAMError.wrongFile(file: url.lastPathComponent, reason: "is missing")
        }
        do {
            let model = try await AIModel(contentsOf: url, options: options)
            if let function = try model.loadFunction(named: "main") { return function }
        } catch {
            throw MobileSAMError.wrongFile(
                file: url.lastPathComponent, reason: "cannot be read (\(error.localizedDescription))")
        }
        throw MobileSAMError.wrongFile(file: url.lastPathComponent, reason: "has no function main")
    }

    private static func check(
        _ function: InferenceFunction, _ url: URL, input name: String, is kind: String, shape: [Int]
    ) throws {
        guard case .ndArray(let input) = function.descriptor.inputDescriptor(of: name) else {
            let found = function.descriptor.inputNames.sorted().joined(separator: ", ")
            throw MobileSAMError.wrongFile(file: url.lastPathComponent, reason: "is no \(kind) (it takes \(found))")
        }
        if input.shape != shape {
            throw MobileSAMError.wrongFile(
                file: url.lastPathComponent, reason: "has another size than this sample")
        }
    }

    /// Values in row-major order as an input, in whatever strides the device wants.
    private func array<Scalar: BitwiseCopyable>(
        _ name: String, of function: InferenceFunction, _ values: [Scalar]
    ) throws -> NDArray {
        guard case .ndArray(let descriptor) = function.descriptor.inputDescriptor(of: name) else {
            throw MobileSAMError.wrongFile(file: ModelFile.decoder, reason: "takes no \(name)")
        }
        var array = NDArray(descriptor: descriptor)
        var view = array.mutableView(as: Scalar.self)
        view.copyElements(fromContentsOf: values)
        return array
    }

    /// An output in row-major order; its last axis may be padded.
    private func values(_ array: NDArray?, _ name: String, _ file: String) throws -> [Float] {
        guard let array else { throw MobileSAMError.wrongFile(file: file, reason: "gives no \(name)") }
        let count = array.shape.reduce(1, *)
        return array.view(as: Float.self).withUnsafePointer { pointer, shape, strides in
            var result = [Float](repeating: 0, count: count)
            for index in 0..<count {
                var (rest, offset) = (index, 0)
                for axis in (0..<shape.count).reversed() {
                    offset += rest % shape[axis] * strides[axis]
                    rest /= shape[axis]
                }
                result[index] = pointer[offset]
            }
            return result
        }
    }
}
