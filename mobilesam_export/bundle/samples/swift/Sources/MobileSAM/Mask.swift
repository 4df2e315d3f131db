/// Width and height in pixels.
public struct ImageSize: Sendable, Equatable, CustomStringConvertible {
    public let width: Int
    public let height: Int

    public init(width: Int, height: Int) { (self.width, self.height) = (width, height) }

    public var description: String { "\(width) x \(height)" }

    /// The largest size of this shape that `room` holds, rounded half up.
    func resized(_ room: ImageSize) -> ImageSize {
        let factor = min(Double(room.width) / Double(width), Double(room.height) / Double(height))
        return ImageSize(
            width: max(1, Int(Double(width) * factor + 0.5)), height: max(1, Int(Double(height) * factor + 0.5)))
    }
}

/// The answer to a prompt.
public struct Mask: Sendable {
    /// Of the upright image.
    public let size: ImageSize
    /// Row by row, whether each pixel belongs to the mask.
    public let inside: [Bool]
    /// The model's own estimate of the mask's IoU, about 0...1.
    public let score: Float
    /// H/4 x W/4; `segment` takes them back from `previousMask`.
    let logits: [Float]

    /// Whether the pixel belongs to the mask.
    public subscript(x: Int, y: Int) -> Bool { inside[y * size.width + x] }

    /// How many pixels belong to it.
    public var area: Int { inside.reduce(0) { $0 + ($1 ? 1 : 0) } }

    /// Intersection over union of two masks of one size; 1 if both are empty.
    static func iou(_ found: [Bool], _ expected: [Bool]) -> Double {
        var both = 0, either = 0
        for (a, b) in zip(found, expected) {
            if a && b { both += 1 }
            if a || b { either += 1 }
        }
        return either == 0 ? 1 : Double(both) / Double(either)
    }
}
