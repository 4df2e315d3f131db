import CoreGraphics
import CoreML
import Foundation
import ImageIO

/// Segments what a user points at: `setImage` once per image (slow), `segment` once per prompt (fast).
///
/// Threads: an actor, so callable from anywhere with `await`, and never computing on the main thread.
/// Calls are answered one after the other.
///
///     let sam = try await MobileSAM()
///     try await sam.setImage(contentsOf: photo)
///     let mask = try await sam.segment(points: [PromptPoint(x: 320, y: 240)])
///     let better = try await sam.segment(
///         points: [PromptPoint(x: 320, y: 240), PromptPoint(x: 100, y: 80, foreground: false)], previousMask: mask)
public actor MobileSAM {
    /// What the two files expect; `contract.slots` is the most points of a prompt.
    public nonisolated let contract = Contract()
    private var runtime: Runtime?
    private var image: (size: ImageSize, embedding: [Float])?

    /// Load the files that Xcode has compiled into an app or a package.
    ///
    /// - Parameters:
    ///   - bundle: that holds encoder.mlmodelc and decoder.mlmodelc.
    ///   - computeUnits: the files are laid out for the Neural Engine.
    /// - Throws: `MobileSAMError.wrongFile`: one is missing, damaged or another one.
    public init(bundle: Bundle = .main, computeUnits: MLComputeUnits = .cpuAndNeuralEngine) async throws {
        func url(_ name: String) throws -> URL {
            let stem = (name as NSString).deletingPathExtension
            guard let url = bundle.url(forResource: stem, withExtension: "mlmodelc") else {
                throw MobileSAMError.wrongFile(file: name, reason: "is not in \(bundle.bundleURL.lastPathComponent)")
            }
            return url
        }
        try await self.init(
            encoder: url(ModelFile.encoder), decoder: url(ModelFile.decoder), computeUnits: computeUnits)
    }

    /// Load two files, .mlmodelc or .mlpackage; the latter are compiled before, which takes seconds.
    public init(
        encoder: URL, decoder: URL, computeUnits: MLComputeUnits = .cpuAndNeuralEngine
    ) async throws {
        runtime = try await Runtime(
            encoder: encoder, decoder: decoder, computeUnits: computeUnits, contract: Contract())
    }

    /// Encode an image; the embedding is kept until the next one.
    ///
    /// - Parameter orientation: which way is up: a `CGImage` does not say.
    public func setImage(_ image: CGImage, orientation: CGImagePropertyOrientation = .up) throws {
        try setImage(Pixels(image, orientation: orientation))
    }

    /// Encode an image file; its EXIF orientation is applied.
    public func setImage(contentsOf url: URL) throws {
        try setImage(Pixels(contentsOf: url))
    }

    /// The mask of what the user points at.
    ///
    /// - Parameters:
    ///   - points: clicks, in pixels of the upright image (not of the view that shows it).
    ///   - box: in pixels of the upright image.
    ///   - previousMask: the answer to refine: pass it with all points so far and a new one.
    /// - Throws: `MobileSAMError`: the prompt has no answer, or there is no image yet.
    public func segment(points: [PromptPoint] = [], box: CGRect? = nil, previousMask: Mask? = nil) throws -> Mask {
        let runtime = try opened()
        guard let image else { throw MobileSAMError.noImage }
        let inputs = try DecoderInputs(
            points: points, box: box, previousMask: previousMask, size: image.size, contract: contract)
        let outputs = try runtime.decode(image.embedding, inputs)
        return outputs.mask(outputs.chosen(points: points, box: box), size: image.size, contract: contract)
    }

    /// Run both files once on nothing, so that the first real call is as fast as the next ones.
    public func warmUp() throws {
        let runtime = try opened()
        let embedding = try runtime.encode([UInt8](repeating: 0, count: contract.inputSize))
        let inputs = try DecoderInputs(
            points: [PromptPoint(x: 0, y: 0)], box: nil, previousMask: nil,
            size: contract.input, contract: contract)
        _ = try runtime.decode(embedding, inputs)
    }

    /// Compare this device with PyTorch's answers. Forgets the image.
    ///
    /// - Parameter folder: with `manifest.json` and `golden` of the bundle.
    /// - Returns: what was measured; `failures` is empty where all limits hold.
    public func selfTest(golden folder: URL) throws -> SelfTest {
        image = nil
        return try SelfTest(folder: folder, runtime: opened(), contract: contract)
    }

    /// Free both files; afterwards every call throws `MobileSAMError.closed`.
    public func close() {
        runtime = nil
        image = nil
    }

    private func setImage(_ pixels: @autoclosure () throws -> Pixels) throws {
        let runtime = try opened()
        image = nil // if this fails, no mask of the image before
        let pixels = try pixels()
        image = (pixels.size, try runtime.encode(encoderInput(pixels, contract: contract)))
    }

    private func opened() throws -> Runtime {
        guard let runtime else { throw MobileSAMError.closed }
        return runtime
    }
}
