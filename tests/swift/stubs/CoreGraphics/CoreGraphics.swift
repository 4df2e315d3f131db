// Core Graphics as far as the sample uses it: images of 8 bits RGBA, drawn at their own size.
@_exported import Foundation

public typealias CFString = String
public typealias CFURL = URL

/// Cast to a Swift dictionary by who reads it, as on Apple's systems.
public typealias CFDictionary = AnyObject

public final class CGColorSpace {
    public static let sRGB: CFString = "sRGB"

    public init?(name: CFString) {}
}

public enum CGImageAlphaInfo: UInt32 {
    case premultipliedLast = 1
    case noneSkipLast = 5
}

public final class CGImage {
    public let width: Int
    public let height: Int
    public let rgba: [UInt8]

    public init(width: Int, height: Int, rgba: [UInt8]) {
        precondition(rgba.count == 4 * width * height)
        (self.width, self.height, self.rgba) = (width, height, rgba)
    }
}

public final class CGContext {
    public let data: UnsafeMutableRawPointer?
    private let owned: Bool
    private let width: Int
    private let height: Int

    public init?(
        data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int, bytesPerRow: Int,
        space: CGColorSpace, bitmapInfo: UInt32
    ) {
        guard bitsPerComponent == 8, bytesPerRow == 4 * width, CGImageAlphaInfo(rawValue: bitmapInfo) != nil
        else { return nil }
        owned = data == nil
        self.data = data ?? .allocate(byteCount: bytesPerRow * height, alignment: 16)
        (self.width, self.height) = (width, height)
    }

    deinit { if owned { data?.deallocate() } }

    public func draw(_ image: CGImage, in rect: CGRect) {
        precondition(rect == CGRect(x: 0, y: 0, width: image.width, height: image.height))
        image.rgba.withUnsafeBytes { data!.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    }

    public func makeImage() -> CGImage? {
        let bytes = UnsafeRawBufferPointer(start: data!, count: 4 * width * height)
        return CGImage(width: width, height: height, rgba: [UInt8](bytes))
    }
}
