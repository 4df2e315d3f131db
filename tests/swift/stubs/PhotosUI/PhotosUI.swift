// PhotosUI as far as the sample app uses it, to type-check it.
import SwiftUI

public protocol Transferable {}
extension Data: Transferable {}

public struct PhotosPickerItem: Equatable, Sendable {
    public func loadTransferable<T: Transferable>(type: T.Type) async throws -> T? { nil }
}

public struct PHPickerFilter { public static let images = PHPickerFilter() }

public struct PhotosPicker: OwnView {
    public init(
        _ title: String, selection: Binding<PhotosPickerItem?>, matching filter: PHPickerFilter? = nil
    ) {}
}
