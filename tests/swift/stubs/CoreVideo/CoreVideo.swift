// Core Video as far as the sample uses it. Rows are padded, as on devices.
@_exported import Foundation

public let kCVPixelFormatType_32BGRA: UInt32 = 0x4247_5241

public struct CVPixelBufferLockFlags: OptionSet {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
}

public final class CVPixelBuffer {
    public let width: Int
    public let height: Int
    public let bytesPerRow: Int
    let base: UnsafeMutableRawPointer
    var locks = 0

    init(width: Int, height: Int) {
        (self.width, self.height, bytesPerRow) = (width, height, 4 * width + 64)
        base = .allocate(byteCount: bytesPerRow * height, alignment: 64)
    }

    deinit { base.deallocate() }

    /// RGB, row by row; what an encoder sees.
    public var rgb: [UInt8] {
        precondition(locks == 0, "locked while it is read")
        let bytes = base.assumingMemoryBound(to: UInt8.self)
        return (0..<height).flatMap { y in
            (0..<width).flatMap { x in
                let at = y * bytesPerRow + 4 * x
                return [bytes[at + 2], bytes[at + 1], bytes[at]]
            }
        }
    }
}

@discardableResult
public func CVPixelBufferCreate(
    _ allocator: Any?, _ width: Int, _ height: Int, _ format: UInt32, _ attributes: [String: Any]?,
    _ buffer: UnsafeMutablePointer<CVPixelBuffer?>
) -> Int32 {
    precondition(format == kCVPixelFormatType_32BGRA)
    buffer.pointee = CVPixelBuffer(width: width, height: height)
    return 0
}

@discardableResult
public func CVPixelBufferLockBaseAddress(_ buffer: CVPixelBuffer, _ flags: CVPixelBufferLockFlags) -> Int32 {
    buffer.locks += 1
    return 0
}

@discardableResult
public func CVPixelBufferUnlockBaseAddress(_ buffer: CVPixelBuffer, _ flags: CVPixelBufferLockFlags) -> Int32 {
    buffer.locks -= 1
    return 0
}

public func CVPixelBufferGetBytesPerRow(_ buffer: CVPixelBuffer) -> Int { buffer.bytesPerRow }

public func CVPixelBufferGetBaseAddress(_ buffer: CVPixelBuffer) -> UnsafeMutableRawPointer? {
    buffer.locks > 0 ? buffer.base : nil
}
