import CoreGraphics
import Foundation
import ImageIO

extension Pixels {
    /// - Parameter orientation: which way is up; what EXIF says, for `UIImage` its `imageOrientation`.
    init(_ image: CGImage, orientation: CGImagePropertyOrientation) throws {
        let (width, height) = (image.width, image.height)
        var bytes = [UInt8](repeating: 0, count: 4 * width * height)
        let drawn = bytes.withUnsafeMutableBytes { memory -> Bool in
            guard let space = CGColorSpace(name: CGColorSpace.sRGB),
                let context = CGContext(
                    data: memory.baseAddress, width: width, height: height, bitsPerComponent: 8,
                    bytesPerRow: 4 * width, space: space, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
            else { return false }
            context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
            return true
        }
        if !drawn { throw MobileSAMError.unreadableImage("no memory for \(width) x \(height) pixels") }
        self.init(bytes: bytes, width: width, height: height, orientation: Int(orientation.rawValue))
    }

    /// Decode a file; its EXIF orientation is applied.
    init(contentsOf url: URL) throws {
        guard let source = CGImageSourceCreateWithURL(url as CFURL, nil),
            let image = CGImageSourceCreateImageAtIndex(source, 0, nil)
        else { throw MobileSAMError.unreadableImage("\(url.lastPathComponent) is missing or no image") }
        let properties = CGImageSourceCopyPropertiesAtIndex(source, 0, nil) as? [CFString: Any]
        let value = (properties?[kCGImagePropertyOrientation] as? NSNumber)?.uint32Value ?? 1
        try self.init(image, orientation: CGImagePropertyOrientation(rawValue: value) ?? .up)
    }
}

extension Mask {
    /// The mask as an overlay of the image's size: one color inside, transparent outside.
    ///
    /// - Parameters: red, green, blue, opacity: 0...1.
    public func overlay(red: Double = 0.1, green: Double = 0.5, blue: Double = 1, opacity: Double = 0.5) -> CGImage? {
        // Core Graphics wants colors multiplied by their opacity.
        let color = [red, green, blue, 1].map { UInt8($0 * opacity * 255) }
        var bytes = [UInt8](repeating: 0, count: 4 * inside.count)
        for (index, value) in inside.enumerated() where value {
            for channel in 0..<4 { bytes[4 * index + channel] = color[channel] }
        }
        guard let space = CGColorSpace(name: CGColorSpace.sRGB),
            let context = CGContext(
                data: nil, width: size.width, height: size.height, bitsPerComponent: 8,
                bytesPerRow: 4 * size.width, space: space,
                bitmapInfo: CGImageAlphaInfo.premultipliedLast.rawValue),
            let memory = context.data
        else { return nil }
        bytes.withUnsafeBytes { memory.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        return context.makeImage()
    }
}
