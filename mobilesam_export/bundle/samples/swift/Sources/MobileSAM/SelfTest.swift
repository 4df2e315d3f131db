import CoreGraphics
import Foundation

/// What `MobileSAM.selfTest` has measured, and which of the bundle's limits it exceeds.
public struct SelfTest: Sendable, CustomStringConvertible {
    /// How far this device is from PyTorch on one image.
    public struct ImageFigures: Sendable {
        public let image: String
        public let preprocessingMax: Int
        public let preprocessingMean: Double
        public let embeddingPSNR: Double
    }

    /// How far one answer is: the decoder on PyTorch's embedding, and the whole way from the image.
    public struct PromptFigures: Sendable {
        public let image: String
        public let prompt: String
        public let decoderIoU: Double
        public let maskIoU: Double
    }

    public private(set) var images: [ImageFigures] = []
    public private(set) var prompts: [PromptFigures] = []
    public private(set) var failures: [String] = []

    init() {}

    public var description: String {
        let figures = images.map {
            "\($0.image): preprocessing off by at most \($0.preprocessingMax) of 255 "
                + "(mean \($0.preprocessingMean.short)), embedding \($0.embeddingPSNR.short) dB"
        } + prompts.map {
            "\($0.image), \($0.prompt): IoU \($0.maskIoU.short), decoder alone \($0.decoderIoU.short)"
        }
        let verdict = "MobileSAM self-test: \(failures.isEmpty ? "passed" : "FAILED")"
        return ([verdict] + figures + failures.map { "failed: \($0)" }).joined(separator: "\n")
    }

    /// Compare what the encoder took and gave for an image.
    ///
    /// - Returns: PyTorch's embedding.
    mutating func add(
        _ image: Golden.Image, _ input: [UInt8], _ embedding: [Float], _ golden: URL
    ) throws -> [Float] {
        let pixels = try floats(image.encoder.inputs, "image", golden) ?? []
        let expected = try floats(image.encoder.outputs, "image_embeddings", golden) ?? []
        let apart = zip(input, pixels).map { abs(Int($0) - Int($1)) }
        images.append(ImageFigures(
            image: image.name, preprocessingMax: apart.max() ?? 255,
            preprocessingMean: Double(apart.reduce(0, +)) / Double(max(1, apart.count)),
            embeddingPSNR: psnr(embedding, expected)))
        return expected
    }

    /// Compare the masks of a prompt: of the decoder on PyTorch's embedding, and of both files.
    mutating func add(
        _ image: Golden.Image, _ prompt: Golden.Prompt, alone: DecoderOutputs, both: DecoderOutputs,
        size: ImageSize, contract: Contract, _ golden: URL
    ) throws {
        let white = try Pixels(contentsOf: golden.appendingPathComponent(prompt.mask)).white
        func iou(_ outputs: DecoderOutputs) -> Double {
            let index = outputs.chosen(points: prompt.clicks, box: prompt.rectangle)
            return Mask.iou(outputs.mask(index, size: size, contract: contract).inside, white)
        }
        prompts.append(PromptFigures(
            image: image.name, prompt: prompt.name, decoderIoU: iou(alone), maskIoU: iou(both)))
    }

    /// Judge by the limits in `manifest.json`.
    mutating func judge(_ folder: URL) throws {
        judge(try read(Manifest.self, folder.appendingPathComponent("manifest.json")).limits)
    }

    /// Compare with the manifest's limits; what it does not limit is not judged.
    private mutating func judge(_ limits: Manifest.Limits) {
        func check(_ what: String, _ found: Double, least: Double? = nil, most: Double? = nil) -> String? {
            let holds = found >= least ?? found && found <= most ?? found
            return holds ? nil : "\(what) is \(found.short), limit \((least ?? most ?? 0).short)"
        }
        failures = images.flatMap { figures in [
            check("\(figures.image): preprocessing", Double(figures.preprocessingMax), most: limits.preprocessing?.max),
            check("\(figures.image): preprocessing, mean", figures.preprocessingMean, most: limits.preprocessing?.mean),
            check("\(figures.image): embedding, dB", figures.embeddingPSNR, least: limits.encoder?.psnr_db),
        ] }.compactMap { $0 }
        failures += prompts.flatMap { figures in [
            check(
                "\(figures.image), \(figures.prompt): decoder alone, IoU", figures.decoderIoU,
                least: limits.decoder?.iou),
            check("\(figures.image), \(figures.prompt): IoU", figures.maskIoU, least: limits.mask?.iou),
        ] }.compactMap { $0 }
    }
}

/// `manifest.json`, as far as the self-test reads it.
private struct Manifest: Decodable {
    struct Limits: Decodable {
        struct Preprocessing: Decodable { let max: Double?; let mean: Double? }
        struct Encoder: Decodable { let psnr_db: Double? }
        struct Masks: Decodable { let iou: Double? }

        let preprocessing: Preprocessing?
        let encoder: Encoder?
        let decoder: Masks?
        let mask: Masks?
    }

    let limits: Limits
}

/// `golden/golden.json`.
struct Golden: Decodable {
    struct Tensor: Decodable { let name: String; let file: String; let dtype: String }
    struct Encoder: Decodable { let inputs: [Tensor]; let outputs: [Tensor] }
    struct Image: Decodable { let name: String; let file: String; let encoder: Encoder; let prompts: [Prompt] }

    struct Prompt: Decodable {
        let name: String
        let points: [[Double]]
        let box: [Double]?
        let inputs: [Tensor]
        let mask: String

        var clicks: [PromptPoint] { points.map { PromptPoint(x: $0[0], y: $0[1], foreground: $0[2] == 1) } }

        var rectangle: CGRect? {
            box.map { CGRect(x: $0[0], y: $0[1], width: $0[2] - $0[0], height: $0[3] - $0[1]) }
        }

        func inputs(of size: ImageSize, in golden: URL, contract: Contract) throws -> DecoderInputs {
            let previous = try floats(inputs, "mask_input", golden).map {
                Mask(size: size, inside: [], score: 0, logits: $0)
            }
            return try DecoderInputs(
                points: clicks, box: rectangle, previousMask: previous, size: size, contract: contract)
        }
    }

    let images: [Image]

    init(_ folder: URL) throws {
        self = try read(Golden.self, folder.appendingPathComponent("golden.json"))
    }
}

extension Pixels {
    /// Whether each pixel of a golden mask is inside: white.
    fileprivate var white: [Bool] {
        stride(from: 0, to: bytes.count, by: 4).map { bytes[$0] > 127 }
    }
}

private func read<T: Decodable>(_ type: T.Type, _ url: URL) throws -> T {
    do {
        return try JSONDecoder().decode(type, from: Data(contentsOf: url))
    } catch {
        throw MobileSAMError.wrongFile(file: url.lastPathComponent, reason: "cannot be read (\(error))")
    }
}

/// A tensor of the bundle as floats, whatever its type; nil if it is not listed.
private func floats(_ tensors: [Golden.Tensor], _ name: String, _ golden: URL) throws -> [Float]? {
    guard let tensor = tensors.first(where: { $0.name == name }) else { return nil }
    let data = try Data(contentsOf: golden.appendingPathComponent(tensor.file))
    if tensor.dtype == "uint8" { return data.map(Float.init) }
    var result = [Float](repeating: 0, count: data.count / 4)
    _ = result.withUnsafeMutableBytes { data.copyBytes(to: $0) } // little-endian, as every Apple chip
    return result
}

/// Peak signal-to-noise ratio in dB; the peak is the reference's largest absolute value.
private func psnr(_ found: [Float], _ expected: [Float]) -> Double {
    var squares = 0.0, peak = 0.0
    for (a, b) in zip(found, expected) {
        squares += Double(a - b) * Double(a - b)
        peak = max(peak, Double(abs(b)))
    }
    return squares == 0 ? .infinity : 20 * log10(peak / (squares / Double(expected.count)).squareRoot())
}

extension Double {
    fileprivate var short: String { String(format: "%.4f", self) }
}
