/// What the two files expect; the values are those of the bundle that this sample was written for.
public struct Contract: Sendable {
    /// S: the encoder's input is S x S pixels.
    public let side = {{side}}
    /// Points that the decoder takes; a box takes two.
    public let slots = {{slots}}
    /// RGB of the padding right of or below the image.
    let fill: [UInt8] = [{{fill_red}}, {{fill_green}}, {{fill_blue}}]
    /// Side of a low-resolution mask.
    var maskSide: Int { side / 4 }
    /// Values in a low-resolution mask.
    var maskSize: Int { maskSide * maskSide }
    /// Shape of an embedding.
    var embeddingShape: [Int] { [1, 256, side / 16, side / 16] }
}

/// Names of the files in the bundle.
enum ModelFile {
    static let encoder = "{{encoder}}"
    static let decoder = "{{decoder}}"
}
