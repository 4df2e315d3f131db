/// What the two files expect; the values are those of the bundle that this sample was written for.
public struct Contract: Sendable {
    /// Of the encoder's input, W x H.
    public let input = ImageSize(width: {{width}}, height: {{height}})
    /// Points that the decoder takes; a box takes two.
    public let slots = {{slots}}
    /// RGB of the padding right of or below the image.
    let fill: [UInt8] = [{{fill_red}}, {{fill_green}}, {{fill_blue}}]
    /// Of a low-resolution mask.
    var maskShape: ImageSize { ImageSize(width: input.width / 4, height: input.height / 4) }
    /// Values in a low-resolution mask.
    var maskSize: Int { maskShape.width * maskShape.height }
    /// Shape of an embedding.
    var embeddingShape: [Int] { [1, 256, input.height / 16, input.width / 16] }
    /// Values in the encoder's input.
    var inputSize: Int { 3 * input.width * input.height }
}

/// Names of the files in the bundle.
enum ModelFile {
    static let encoder = "{{encoder}}"
    static let decoder = "{{decoder}}"
}
