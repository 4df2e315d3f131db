import CoreML
import CoreVideo
import Foundation

/// The two files, run by Core ML.
final class Runtime {
    private let encoder: MLModel
    private let decoder: MLModel
    private let contract: Contract
    private let input: CVPixelBuffer

    init(encoder: URL, decoder: URL, computeUnits: MLComputeUnits, contract: Contract) async throws {
        self.contract = contract
        self.encoder = try await Self.load(encoder, computeUnits)
        self.decoder = try await Self.load(decoder, computeUnits)
        try Self.check(self.encoder, encoder, input: "image", is: "encoder") { input in
            input.imageConstraint.map { [$0.pixelsHigh, $0.pixelsWide] }
                == [contract.input.height, contract.input.width]
        }
        try Self.check(self.decoder, decoder, input: "point_coords", is: "decoder") { input in
            input.multiArrayConstraint?.shape.map(\.intValue) == [1, contract.slots, 2]
        }
        var buffer: CVPixelBuffer?
        CVPixelBufferCreate(
            nil, contract.input.width, contract.input.height, kCVPixelFormatType_32BGRA, nil, &buffer)
        guard let buffer else { throw MobileSAMError.unreadableImage("no memory for the encoder's input") }
        input = buffer
    }

    /// Run the encoder.
    ///
    /// - Parameter image: H x W x 3 bytes RGB.
    /// - Returns: the embedding, 256 x H/16 x W/16.
    func encode(_ image: [UInt8]) throws -> [Float] {
        write(image)
        let outputs = try encoder.prediction(from: MLDictionaryFeatureProvider(
            dictionary: ["image": MLFeatureValue(pixelBuffer: input)]))
        return try values("image_embeddings", of: outputs, ModelFile.encoder)
    }

    /// Run the decoder on an embedding.
    func decode(_ embedding: [Float], _ inputs: DecoderInputs) throws -> DecoderOutputs {
        let (slots, low) = (contract.slots, contract.maskShape)
        let mask = inputs.mask ?? [Float](repeating: 0, count: contract.maskSize)
        let outputs = try decoder.prediction(from: MLDictionaryFeatureProvider(dictionary: [
            "image_embeddings": feature(embedding, contract.embeddingShape),
            "point_coords": feature(inputs.coords, [1, slots, 2]),
            "point_labels": feature(inputs.labels, [1, slots]),
            "mask_input": feature(mask, [1, 1, low.height, low.width]),
            "has_mask_input": feature([inputs.mask == nil ? 0 : 1], [1]),
        ]))
        return DecoderOutputs(
            masks: try values("low_res_masks", of: outputs, ModelFile.decoder),
            scores: try values("iou_predictions", of: outputs, ModelFile.decoder))
    }

    private static func load(_ url: URL, _ computeUnits: MLComputeUnits) async throws -> MLModel {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = computeUnits
        guard FileManager.default.fileExists(atPath: url.path) else {
            throw MobileSAMError.wrongFile(file: url.lastPathComponent, reason: "is missing")
        }
        do {
            let isPackage = url.pathExtension == "mlpackage"
            let compiled = isPackage ? try await MLModel.compileModel(at: url) : url
            defer { if isPackage { try? FileManager.default.removeItem(at: compiled) } }
            return try await MLModel.load(contentsOf: compiled, configuration: configuration)
        } catch {
            throw MobileSAMError.wrongFile(
                file: url.lastPathComponent, reason: "cannot be read (\(error.localizedDescription))")
        }
    }

    private static func check(
        _ model: MLModel, _ url: URL, input name: String, is kind: String,
        fits: (MLFeatureDescription) -> Bool
    ) throws {
        let inputs = model.modelDescription.inputDescriptionsByName
        guard let input = inputs[name] else {
            let found = inputs.keys.sorted().joined(separator: ", ")
            throw MobileSAMError.wrongFile(file: url.lastPathComponent, reason: "is no \(kind) (it takes \(found))")
        }
        if !fits(input) {
            throw MobileSAMError.wrongFile(
                file: url.lastPathComponent, reason: "has another size than this sample")
        }
    }

    /// RGB to the BGRA of the encoder's input.
    private func write(_ image: [UInt8]) {
        CVPixelBufferLockBaseAddress(input, [])
        defer { CVPixelBufferUnlockBaseAddress(input, []) }
        let stride = CVPixelBufferGetBytesPerRow(input)
        guard let base = CVPixelBufferGetBaseAddress(input) else { return }
        let to = base.assumingMemoryBound(to: UInt8.self)
        for y in 0..<contract.input.height {
            for x in 0..<contract.input.width {
                let pixel = 3 * (y * contract.input.width + x), at = y * stride + 4 * x
                to[at] = image[pixel + 2]
                to[at + 1] = image[pixel + 1]
                to[at + 2] = image[pixel]
                to[at + 3] = 255
            }
        }
    }

    private func feature(_ scalars: [Float], _ shape: [Int]) -> MLFeatureValue {
        MLFeatureValue(shapedArray: MLShapedArray<Float>(scalars: scalars, shape: shape))
    }

    private func values(_ name: String, of outputs: MLFeatureProvider, _ file: String) throws -> [Float] {
        guard let array = outputs.featureValue(for: name)?.shapedArrayValue(of: Float.self) else {
            throw MobileSAMError.wrongFile(file: file, reason: "gives no \(name)")
        }
        return array.scalars
    }
}
