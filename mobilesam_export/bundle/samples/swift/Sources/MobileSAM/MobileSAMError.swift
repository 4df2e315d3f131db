import Foundation

/// What can go wrong by the input; each description says what was expected, found, and what to do.
public enum MobileSAMError: LocalizedError, Equatable {
    case noImage
    case emptyPrompt
    case tooManyPoints(found: Int, limit: Int)
    case outsideImage(x: Double, y: Double, width: Int, height: Int)
    case emptyBox
    case wrongMask(found: String, expected: String)
    case unreadableImage(String)
    case wrongFile(file: String, reason: String)
    case closed

    public var errorDescription: String? {
        switch self {
        case .noImage:
            "no image yet: call setImage before segment"
        case .emptyPrompt:
            "nothing to segment: give at least one point, a box or a previous mask"
        case let .tooManyPoints(found, limit):
            "the prompt takes \(found) slots (a box takes two) and this decoder has \(limit): "
                + "leave out points, or export with --points \(found)"
        case let .outsideImage(x, y, width, height):
            "\(x),\(y) is outside the image, which is \(width) x \(height): "
                + "give pixels of the image, not of the view"
        case .emptyBox:
            "the box is empty; expected a width and a height above 0"
        case let .wrongMask(found, expected):
            "previousMask is of an image of \(found), the image is \(expected): pass a mask of this image"
        case let .unreadableImage(reason):
            "the image cannot be read: \(reason)"
        case let .wrongFile(file, reason):
            "\(file) \(reason): copy it again from the bundle of this sample"
        case .closed:
            "this MobileSAM is closed: make another"
        }
    }
}
