import CoreAI
import CoreGraphics
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
    /// What the files are specialized for where nothing else is asked: they are laid out for it.
    public static var neuralEngine: SpecializationOptions {
        SpecializationOptions(preferredComputeUnitKind: .neuralEngine)
    }

    /// What the two files expect; `contract.slots` is the most points of a prompt.
    public nonisolated let contract = Contract()
    private var runtime: Runtime?
    private var image: (size: ImageSize, embedding: [Float])?
    private var last: Task<Void, Never>?

    /// Load the files that are in an app or a package, compiled ahead of time (.aimodelc) or not.
    ///
    /// - Parameters:
    ///   - bundle: that holds encoder.aimodel and decoder.aimodel.
    ///   - options: the chip to specialize for; the first load takes seconds for that, later ones do not.
    /// - Throws: `MobileSAMError.wrongFile`: one is missing, damaged or another one.
    public init(bundle: Bundle = .main, options: SpecializationOptions = neuralEngine) async throws {
        func url(_ name: String) throws -> URL {
            let stem = (name as NSString).deletingPathExtension
            let found = ["aimodelc", "aimodel"].compactMap { bundle.url(forResource: stem, withExtension: $0) }
            guard let url = found.first else {
                throw MobileSAMError.wrongFile(file: name, reason: "is not in \(bundle.bundleURL.lastPathComponent)")
            }
            return url
        }
        try await self.init(encoder: url(ModelFile.encoder), decoder: url(ModelFile.decoder), options: options)
    }

    /// Load two files, .aimodel or .aimodelc.
    public init(encoder: URL, decoder: URL, options: SpecializationOptions = neuralEngine) async throws {
        runtime = try await Runtime(encoder: encoder, decoder: decoder, options: options, contract: Contract())
    }

    /// Encode an image; the embedding is kept until the next one.
    ///
    /// - Parameter orientation: which way is up: a `CGImage` does not say.
    public func setImage(_ image: CGImage, orientation: CGImagePropertyOrientation = .up) async throws {
        try await inTurn { try await self.encode(Pixels(image, orientation: orientation)) }
    }

    /// Encode an image file; its EXIF orientation is applied.
    public func setImage(contentsOf url: URL) async throws {
        try await inTurn { try await self.encode(Pixels(contentsOf: url)) }
    }

    /// The mask of what the user points at.
    ///
    /// - Parameters:
    ///   - points: clicks, in pixels of the upright image (not of the view that shows it).
    ///   - box: in pixels of the upright image.
    ///   - previousMask: the answer to refine: pass it with all points so far and a new one.
    /// - Throws: `MobileSAMError`: the prompt has no answer, or there is no image yet.
    public func segment(
        points: [PromptPoint] = [], box: CGRect? = nil, previousMask: Mask? = nil
    ) async throws -> Mask {
        try await inTurn {
            let runtime = try self.opened()
            guard let image = self.image else { throw MobileSAMError.noImage }
            let inputs = try DecoderInputs(
                points: points, box: box, previousMask: previousMask, size: image.size, contract: self.contract)
            let outputs = try await runtime.decode(image.embedding, inputs)
            return outputs.mask(outputs.chosen(points: points, box: box), size: image.size, contract: self.contract)
        }
    }

    /// Run both files once on nothing, so that the first real call is as fast as the next ones.
    public func warmUp() async throws {
        try await inTurn {
            let runtime = try self.opened()
            let embedding = try await runtime.encode([UInt8](repeating: 0, count: self.contract.inputSize))
            let inputs = try DecoderInputs(
                points: [PromptPoint(x: 0, y: 0)], box: nil, previousMask: nil,
                size: self.contract.input, contract: self.contract)
            _ = try await runtime.decode(embedding, inputs)
        }
    }

    /// Compare this device with PyTorch's answers. Forgets the image.
    ///
    /// - Parameter folder: with `manifest.json` and `golden` of the bundle.
    /// - Returns: what was measured; `failures` is empty where all limits hold.
    public func selfTest(golden folder: URL) async throws -> SelfTest {
        try await inTurn {
            self.image = nil
            return try await SelfTest(folder: folder, runtime: self.opened(), contract: self.contract)
        }
    }

    /// Free both files; afterwards every call throws `MobileSAMError.closed`.
    public func close() {
        runtime = nil
        image = nil
    }

    private func encode(_ pixels: @autoclosure () throws -> Pixels) async throws {
        let runtime = try opened()
        image = nil // if this fails, no mask of the image before
        let pixels = try pixels()
        image = (pixels.size, try await runtime.encode(encoderInput(pixels, contract: contract)))
    }

    private func opened() throws -> Runtime {
        guard let runtime else { throw MobileSAMError.closed }
        return runtime
    }

    /// Core AI answers later, and an actor takes the next call meanwhile: let it wait for this one.
    private func inTurn<Answer: Sendable>(_ body: @escaping () async throws -> Answer) async throws -> Answer {
        let before = last
        let task = Task {
            await before?.value
            return try await body()
        }
        last = Task { _ = await task.result }
        return try await task.value
    }
}
