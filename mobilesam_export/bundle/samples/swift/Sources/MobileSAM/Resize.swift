/// Stored pixels, seen upright: the pixel at x, y begins at `origin + x * stepX + y * stepY`. So an
/// image that EXIF turns needs no second copy.
struct Pixels {
    let bytes: [UInt8] // RGBA
    let size: ImageSize // upright
    let origin: Int
    let stepX: Int
    let stepY: Int

    /// - Parameters:
    ///   - bytes: RGBA, row by row, as stored.
    ///   - width: as stored.
    ///   - height: as stored.
    ///   - orientation: of EXIF, 1...8; anything else is 1.
    init(bytes: [UInt8], width: Int, height: Int, orientation: Int = 1) {
        self.bytes = bytes
        let right = 4, down = 4 * width
        let lastColumn = right * (width - 1), lastRow = down * (height - 1)
        switch orientation {
        case 2: (origin, stepX, stepY) = (lastColumn, -right, down)
        case 3: (origin, stepX, stepY) = (lastColumn + lastRow, -right, -down)
        case 4: (origin, stepX, stepY) = (lastRow, right, -down)
        case 5: (origin, stepX, stepY) = (0, down, right)
        case 6: (origin, stepX, stepY) = (lastRow, -down, right)
        case 7: (origin, stepX, stepY) = (lastColumn + lastRow, -down, -right)
        case 8: (origin, stepX, stepY) = (lastColumn, down, -right)
        default: (origin, stepX, stepY) = (0, right, down)
        }
        let turned = (5...8).contains(orientation)
        size = ImageSize(width: turned ? height : width, height: turned ? width : height)
    }
}

/// The encoder's input: the image as large as it fits, top left, the rest filled.
///
/// - Returns: H x W x 3 bytes RGB, row by row.
func encoderInput(_ image: Pixels, contract: Contract) -> [UInt8] {
    let size = image.size.resized(contract.input)
    let narrow = resizedRows(image, width: size.width)
    let line = 3 * size.width, stride = 3 * contract.input.width
    var input = [UInt8](repeating: 0, count: contract.inputSize)
    for i in input.indices { input[i] = contract.fill[i % 3] }
    let taps = makeTaps(from: image.size.height, to: size.height)
    narrow.withUnsafeBufferPointer { rows in
        for (y, tap) in taps.enumerated() {
            for i in 0..<line {
                input[stride * y + i] = tap.sum { rows[$0 * line + i] }
            }
        }
    }
    return input
}

/// All rows of the image at the new width: height x width x 3 bytes.
private func resizedRows(_ image: Pixels, width: Int) -> [UInt8] {
    let taps = makeTaps(from: image.size.width, to: width)
    var result = [UInt8]()
    result.reserveCapacity(3 * width * image.size.height)
    image.bytes.withUnsafeBufferPointer { bytes in
        for y in 0..<image.size.height {
            let row = image.origin + y * image.stepY
            for tap in taps {
                for channel in 0..<3 {
                    result.append(tap.sum { bytes[row + $0 * image.stepX + channel] })
                }
            }
        }
    }
    return result
}

/// Bits of a filter's weights, as in Pillow: with whole numbers, ties are rounded as there.
private let precision = 22

/// The source pixels of one result pixel, from `first` on, and their weights.
private struct Taps {
    let first: Int
    let weights: [Int]

    @inline(__always)
    func sum(_ value: (Int) -> UInt8) -> UInt8 {
        var sum = 1 << (precision - 1) // rounds half up
        for i in weights.indices { sum += weights[i] * Int(value(first + i)) }
        return UInt8(min(255, sum >> precision))
    }
}

/// A bilinear filter that antialiases: a triangle that is as wide as a result pixel where the image
/// shrinks. What Core Graphics makes of `interpolationQuality` is not specified, and differs.
private func makeTaps(from: Int, to: Int) -> [Taps] {
    let scale = Double(from) / Double(to)
    let reach = max(scale, 1)
    return (0..<to).map { index in
        let center = (Double(index) + 0.5) * scale
        let first = max(0, Int(center - reach + 0.5))
        let end = min(from, Int(center + reach + 0.5))
        let weights = (first..<end).map { max(0, 1 - abs((Double($0) + 0.5 - center) / reach)) }
        let total = weights.reduce(0, +)
        return Taps(first: first, weights: weights.map { Int($0 / total * Double(1 << precision) + 0.5) })
    }
}

/// Low-resolution logits to a mask of the image's size: bilinear to H x W, without the padding, on to
/// the image's size, and only then thresholded at 0. Thresholding first gives jagged edges.
func upscaled(_ logits: [Float], to size: ImageSize, contract: Contract) -> [Bool] {
    let input = contract.input, low = contract.maskShape
    let inner = size.resized(input)
    var full = [Float](repeating: 0, count: input.width * input.height)
    resize(logits, stride: low.width, from: low, to: input) { full[$0] = $1 }
    var mask = [Bool](repeating: false, count: size.width * size.height)
    resize(full, stride: input.width, from: inner, to: size) { mask[$0] = $1 > 0 }
    return mask
}

/// Resize the top left `from` of `values`; `write` gets each result, row by row, with its index.
@inline(__always)
private func resize(
    _ values: [Float], stride: Int, from: ImageSize, to: ImageSize, write: (Int, Float) -> Void
) {
    let columns = places(from: from.width, to: to.width)
    let rows = places(from: from.height, to: to.height)
    var line = [Float](repeating: 0, count: from.width)
    var index = 0
    values.withUnsafeBufferPointer { values in
        for row in rows {
            let top = row.low * stride, bottom = row.high * stride
            for x in line.indices {
                line[x] = values[top + x] + (values[bottom + x] - values[top + x]) * row.part
            }
            for column in columns {
                write(index, line[column.low] + (line[column.high] - line[column.low]) * column.part)
                index += 1
            }
        }
    }
}

/// A result pixel's two neighbours, and how near it is to the second.
private struct Place {
    let low: Int
    let high: Int
    let part: Float
}

/// Centers of pixels correspond (align_corners=False), as in PyTorch's interpolate.
private func places(from: Int, to: Int) -> [Place] {
    let scale = Float(from) / Float(to)
    return (0..<to).map { index in
        let exact = min(max((Float(index) + 0.5) * scale - 0.5, 0), Float(from - 1))
        let low = Int(exact)
        return Place(low: low, high: min(low + 1, from - 1), part: exact - Float(low))
    }
}
