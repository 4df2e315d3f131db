import CoreGraphics

/// A click, in pixels of the upright image from its top left corner. (Apple's systems have a `Point`.)
public struct PromptPoint: Sendable, Equatable {
    public let x: Double
    public let y: Double
    public let foreground: Bool

    public init(x: Double, y: Double, foreground: Bool = true) {
        (self.x, self.y, self.foreground) = (x, y, foreground)
    }
}

/// The decoder's inputs for one prompt.
struct DecoderInputs {
    /// x then y of each slot, in pixels of the encoder's input.
    var coords: [Float]
    /// 1 foreground, 0 background, 2 and 3 the box's corners, -1 an empty slot.
    var labels: [Float]
    /// Low-resolution logits of an earlier answer.
    var mask: [Float]?

    /// Check a prompt and put it into the decoder's slots.
    init(
        points: [PromptPoint], box: CGRect?, previousMask: Mask?, size: ImageSize, contract: Contract
    ) throws {
        try Self.check(points, box, previousMask, size, contract)
        let resized = size.resized(contract.input)
        let scaleX = Double(resized.width) / Double(size.width)
        let scaleY = Double(resized.height) / Double(size.height)
        coords = [Float](repeating: 0, count: 2 * contract.slots)
        labels = [Float](repeating: -1, count: contract.slots)
        var filled = points.map { ($0.x, $0.y, $0.foreground ? Float(1) : 0) }
        if let box {
            filled.append((box.minX, box.minY, 2))
            filled.append((box.maxX, box.maxY, 3))
        }
        for (slot, (x, y, label)) in filled.enumerated() {
            coords[2 * slot] = Float(x * scaleX)
            coords[2 * slot + 1] = Float(y * scaleY)
            labels[slot] = label
        }
        mask = previousMask?.logits
    }

    private static func check(
        _ points: [PromptPoint], _ box: CGRect?, _ previousMask: Mask?, _ size: ImageSize, _ contract: Contract
    ) throws {
        let found = points.count + (box == nil ? 0 : 2)
        if found == 0 && previousMask == nil { throw MobileSAMError.emptyPrompt }
        if found > contract.slots {
            throw MobileSAMError.tooManyPoints(found: found, limit: contract.slots)
        }
        let corners = box.map { [PromptPoint(x: $0.minX, y: $0.minY), PromptPoint(x: $0.maxX, y: $0.maxY)] }
        for point in points + (corners ?? []) {
            let inside = (0...Double(size.width)).contains(point.x) && (0...Double(size.height)).contains(point.y)
            if !inside {
                throw MobileSAMError.outsideImage(x: point.x, y: point.y, width: size.width, height: size.height)
            }
        }
        if let box, !(box.width > 0 && box.height > 0) { throw MobileSAMError.emptyBox }
        if let previousMask, previousMask.size != size {
            throw MobileSAMError.wrongMask(found: "\(previousMask.size)", expected: "\(size)")
        }
    }
}

/// The decoder's outputs: four masks of S/4 x S/4 logits, and the predicted IoU of each.
struct DecoderOutputs {
    let masks: [Float]
    let scores: [Float]

    /// Which mask answers the prompt. One click is ambiguous (a shirt or the person?), so that the best
    /// of masks 1, 2, 3 is taken; for everything else mask 0 is the answer.
    func chosen(points: [PromptPoint], box: CGRect?) -> Int {
        guard points.count == 1, box == nil else { return 0 }
        return (2...3).reduce(1) { scores[$1] > scores[$0] ? $1 : $0 }
    }

    /// The chosen mask at the image's size.
    func mask(_ index: Int, size: ImageSize, contract: Contract) -> Mask {
        let logits = Array(masks[(index * contract.maskSize)..<((index + 1) * contract.maskSize)])
        let inside = upscaled(logits, to: size, contract: contract)
        return Mask(size: size, inside: inside, score: scores[index], logits: logits)
    }
}
