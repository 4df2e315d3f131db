// Latency of @SUBJECT@ with XCTest, on each compute unit; answers are held to golden vectors.
import CoreML
import CoreVideo
import XCTest

final class LatencyTests: XCTestCase {
    static let width = @WIDTH@ // of the encoder's input
    static let height = @HEIGHT@
    static let psnr = @PSNR@ // dB, least of the embedding
    static let logits = @LOGITS@ // most that a mask logit may be off

    func test_encoder_all() throws { try time("encoder", .all) }
    func test_encoder_cpu() throws { try time("encoder", .cpuOnly) }
    func test_encoder_cpuAndGPU() throws { try time("encoder", .cpuAndGPU) }
    func test_encoder_cpuAndNeuralEngine() throws { try time("encoder", .cpuAndNeuralEngine) }
    func test_decoder_all() throws { try time("decoder", .all) }
    func test_decoder_cpu() throws { try time("decoder", .cpuOnly) }
    func test_decoder_cpuAndGPU() throws { try time("decoder", .cpuAndGPU) }
    func test_decoder_cpuAndNeuralEngine() throws { try time("decoder", .cpuAndNeuralEngine) }

    func time(_ component: String, _ units: MLComputeUnits) throws {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units
        let package = try resource("Models/\(component).mlpackage")
        let compiled = try MLModel.compileModel(at: package)
        let clock = ContinuousClock()
        let loading = clock.now
        let model = try MLModel(contentsOf: compiled, configuration: configuration)
        let loaded = clock.now
        let inputs = try component == "encoder" ? encoderInputs() : decoderInputs()
        let first = try model.prediction(from: inputs)
        let done = clock.now
        print("# load: \(seconds(loaded - loading)) cold: \(seconds(done - loaded))")
        try check(component, first)
        for _ in 0..<4 { _ = try model.prediction(from: inputs) }
        let options = XCTMeasureOptions()
        options.iterationCount = 50
        measure(metrics: [XCTClockMetric(), XCTMemoryMetric()], options: options) {
            _ = try? model.prediction(from: inputs)
        }
    }

    func seconds(_ duration: Duration) -> Double {
        Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
    }

    func resource(_ path: String) throws -> URL {
        #if SWIFT_PACKAGE
            let bundle = Bundle.module
        #else
            let bundle = Bundle(for: Self.self) // in an Xcode project, whose app is the test host
        #endif
        guard let folder = bundle.resourceURL else { throw CocoaError(.fileNoSuchFile) }
        return folder.appendingPathComponent(path)
    }

    // RGB bytes of the encoder's input, as an image of Core ML's.
    func encoderInputs() throws -> MLFeatureProvider {
        let (width, height) = (Self.width, Self.height)
        let bytes = [UInt8](try Data(contentsOf: resource("Golden/image.uint8")))
        var buffer: CVPixelBuffer?
        CVPixelBufferCreate(nil, width, height, kCVPixelFormatType_32BGRA, nil, &buffer)
        let pixels = try XCTUnwrap(buffer)
        CVPixelBufferLockBaseAddress(pixels, [])
        defer { CVPixelBufferUnlockBaseAddress(pixels, []) }
        let stride = CVPixelBufferGetBytesPerRow(pixels)
        let base = try XCTUnwrap(CVPixelBufferGetBaseAddress(pixels))
            .assumingMemoryBound(to: UInt8.self)
        for row in 0..<height {
            for column in 0..<width {
                let from = 3 * (row * width + column), to = row * stride + 4 * column
                base[to] = bytes[from + 2]
                base[to + 1] = bytes[from + 1]
                base[to + 2] = bytes[from]
                base[to + 3] = 255
            }
        }
        return try MLDictionaryFeatureProvider(
            dictionary: ["image": MLFeatureValue(pixelBuffer: pixels)])
    }

    func decoderInputs() throws -> MLFeatureProvider {
        let (rows, columns) = (NSNumber(value: Self.height / 4), NSNumber(value: Self.width / 4))
        let mask = try MLMultiArray(shape: [1, 1, rows, columns], dataType: .float32)
        mask.withUnsafeMutableBytes { bytes, _ in _ = bytes.initializeMemory(as: UInt8.self, repeating: 0) }
        return try MLDictionaryFeatureProvider(dictionary: [
            "image_embeddings": MLFeatureValue(multiArray: try array(
                "image_embeddings.float32", [1, 256, Self.height / 16, Self.width / 16])),
            "point_coords": MLFeatureValue(multiArray: try array(
                "click/point_coords.float32", [1, @POINTS@, 2])),
            "point_labels": MLFeatureValue(multiArray: try array(
                "click/point_labels.float32", [1, @POINTS@])),
            "mask_input": MLFeatureValue(multiArray: mask),
            "has_mask_input": MLFeatureValue(multiArray: try array(
                "click/has_mask_input.float32", [1])),
        ])
    }

    func numbers(_ name: String) throws -> [Float] {
        try Data(contentsOf: resource("Golden/\(name)")).withUnsafeBytes {
            Array($0.bindMemory(to: Float.self))
        }
    }

    func array(_ name: String, _ shape: [Int]) throws -> MLMultiArray {
        let values = try numbers(name)
        let result = try MLMultiArray(shape: shape.map { NSNumber(value: $0) }, dataType: .float32)
        XCTAssertEqual(values.count, result.count, name)
        for (index, value) in values.enumerated() { result[index] = NSNumber(value: value) }
        return result
    }

    func check(_ component: String, _ outputs: MLFeatureProvider) throws {
        let encoder = component == "encoder"
        let name = encoder ? "image_embeddings" : "low_res_masks"
        let expected = try numbers(encoder ? "image_embeddings.float32" : "click/low_res_masks.float32")
        let found = try XCTUnwrap(outputs.featureValue(for: name)?.multiArrayValue)
        XCTAssertEqual(found.count, expected.count)
        var squares = 0.0, largest = 0.0, peak = 0.0
        for (index, value) in expected.enumerated() {
            let difference = abs(found[index].doubleValue - Double(value))
            squares += difference * difference
            largest = max(largest, difference)
            peak = max(peak, Double(abs(value)))
        }
        let noise = (squares / Double(expected.count)).squareRoot()
        let ok = encoder ? 20 * log10(peak / max(noise, 1e-30)) >= Self.psnr : largest <= Self.logits
        print("# answers: \(ok ? "right" : "wrong: \(name) off by up to \(largest)")")
        XCTAssertTrue(ok, "\(name) is off by up to \(largest)")
    }
}
