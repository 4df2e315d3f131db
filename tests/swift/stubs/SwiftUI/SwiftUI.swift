// SwiftUI and the part of UIKit that the sample app uses, to type-check it. Signatures only: nothing is shown.
@_exported import CoreGraphics

public struct Edge { public struct Set { public static let all = Set() } }
public enum ContentMode { case fit, fill }
public struct Font { public static let footnote = Font() }

@MainActor public protocol View {
    associatedtype Body: View
    @ViewBuilder var body: Body { get }
}

/// A view that SwiftUI itself draws.
public protocol OwnView: View where Body == Never {}
extension OwnView { public var body: Never { return fatalError("nothing is drawn") } }

extension Never: View { public var body: Never { return fatalError("nothing is drawn") } }
extension Optional: View, OwnView where Wrapped: View {}
public struct TupleView<each Content: View>: OwnView { nonisolated init() {} }

@resultBuilder public enum ViewBuilder {
    public static func buildBlock<each Content: View>(_ content: repeat each Content) -> TupleView<repeat each Content> {
        TupleView()
    }
    public static func buildIf<Content: View>(_ content: Content?) -> Content? { content }
}

// MARK: - Views

public struct VStack<Content: View>: OwnView { public init(@ViewBuilder content: () -> Content) {} }
public struct HStack<Content: View>: OwnView { public init(@ViewBuilder content: () -> Content) {} }
public struct ZStack<Content: View>: OwnView { public init(@ViewBuilder content: () -> Content) {} }

public struct GeometryProxy { public var size: CGSize { .zero } }
public struct GeometryReader<Content: View>: OwnView {
    public init(@ViewBuilder content: @escaping (GeometryProxy) -> Content) {}
}

public struct Image: OwnView {
    public init(decorative cgImage: CGImage, scale: CGFloat) {}
    public func resizable() -> Image { self }
}

public struct Text: OwnView {
    public init(_ content: String) {}
    public func font(_ font: Font?) -> Text { self }
}

public struct Button: OwnView {
    public init(_ title: String, action: @escaping @MainActor () -> Void) {}
}

public struct Toggle: OwnView {
    public init(_ title: String, isOn: Binding<Bool>) {}
}

// MARK: - Modifiers

public struct Modified<Content: View>: OwnView {}
public struct BorderedButtonStyle {}
public protocol PrimitiveButtonStyle {}
extension BorderedButtonStyle: PrimitiveButtonStyle {}
extension PrimitiveButtonStyle where Self == BorderedButtonStyle {
    public static var bordered: BorderedButtonStyle { BorderedButtonStyle() }
}

extension View {
    public func aspectRatio(_ aspectRatio: CGSize, contentMode: ContentMode) -> Modified<Self> { Modified() }
    public func position(x: CGFloat = 0, y: CGFloat = 0) -> Modified<Self> { Modified() }
    public func onTapGesture(count: Int = 1, perform: @escaping @MainActor (CGPoint) -> Void) -> Modified<Self> {
        Modified()
    }
    public func fixedSize() -> Modified<Self> { Modified() }
    public func buttonStyle<Style: PrimitiveButtonStyle>(_ style: Style) -> Modified<Self> { Modified() }
    public func padding(_ edges: Edge.Set = .all, _ length: CGFloat? = nil) -> Modified<Self> { Modified() }
    public func task(_ action: @escaping @MainActor @Sendable () async -> Void) -> Modified<Self> { Modified() }
    public func onChange<V: Equatable>(of value: V, perform action: @escaping @MainActor (V) -> Void) -> Modified<Self> {
        Modified()
    }
}

// MARK: - State

@propertyWrapper public struct Binding<Value> {
    public var wrappedValue: Value

    public init(wrappedValue: Value) { self.wrappedValue = wrappedValue }
}

@propertyWrapper public struct State<Value> {
    public var wrappedValue: Value {
        get { value }
        nonmutating set {}
    }
    public var projectedValue: Binding<Value> { Binding(wrappedValue: value) }
    private let value: Value

    public init(wrappedValue: Value) { value = wrappedValue }
}

public protocol ObservableObject: AnyObject {}

@propertyWrapper public struct StateObject<Object: ObservableObject> {
    @MainActor public var wrappedValue: Object { make() }
    private let make: () -> Object

    public init(wrappedValue: @autoclosure @escaping () -> Object) { make = wrappedValue }
}

@propertyWrapper public struct Published<Value> {
    public var wrappedValue: Value

    public init(wrappedValue: Value) { self.wrappedValue = wrappedValue }
}

// MARK: - The app

@MainActor public protocol Scene {}
public struct WindowGroup<Content: View>: Scene { public init(@ViewBuilder content: () -> Content) {} }

@MainActor public protocol App {
    associatedtype Body: Scene
    var body: Body { get }
    init()
}
extension App { public static func main() {} }

// MARK: - UIKit

public final class UIImage {
    public let size = CGSize.zero
    public let scale: CGFloat = 1
    public let cgImage: CGImage? = nil

    public init?(data: Data) {}
    public func draw(in rect: CGRect) {}
}

public final class UIGraphicsImageRendererFormat {
    public var scale: CGFloat = 1

    public init() {}
}

public final class UIGraphicsImageRendererContext {}

public final class UIGraphicsImageRenderer {
    public init(size: CGSize, format: UIGraphicsImageRendererFormat) {}
    public func image(actions: (UIGraphicsImageRendererContext) -> Void) -> UIImage { UIImage(data: Data())! }
}
