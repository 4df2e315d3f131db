// Image I/O without decoders: beside an image file lies FILE.rgba with "WIDTH HEIGHT ORIENTATION\n" and
// its pixels as stored, which the test's Python has decoded.
@_exported import CoreGraphics

public let kCGImagePropertyOrientation: CFString = "Orientation"

public enum CGImagePropertyOrientation: UInt32 {
    case up = 1, upMirrored, down, downMirrored, leftMirrored, right, rightMirrored, left
}

public final class CGImageSource {
    let image: CGImage
    let orientation: UInt32

    init?(_ url: URL) {
        guard FileManager.default.fileExists(atPath: url.path),
            let data = try? Data(contentsOf: url.appendingPathExtension("rgba")),
            let end = data.firstIndex(of: 10)
        else { return nil }
        let header = String(decoding: data[..<end], as: UTF8.self).split(separator: " ").compactMap { Int($0) }
        image = CGImage(width: header[0], height: header[1], rgba: [UInt8](data[(end + 1)...]))
        orientation = UInt32(header[2])
    }
}

public func CGImageSourceCreateWithURL(_ url: CFURL, _ options: CFDictionary?) -> CGImageSource? {
    CGImageSource(url)
}

public func CGImageSourceCreateImageAtIndex(
    _ source: CGImageSource, _ index: Int, _ options: CFDictionary?
) -> CGImage? {
    source.image
}

public func CGImageSourceCopyPropertiesAtIndex(
    _ source: CGImageSource, _ index: Int, _ options: CFDictionary?
) -> CFDictionary? {
    [kCGImagePropertyOrientation: NSNumber(value: source.orientation)] as NSDictionary
}
