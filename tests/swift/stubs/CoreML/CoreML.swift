// Core ML as far as the sample uses it. A model is a network that knows golden vectors; see Model.swift.
@_exported import CoreVideo
@_exported import Foundation

public enum MLComputeUnits { case all, cpuOnly, cpuAndGPU, cpuAndNeuralEngine }

public final class MLModelConfiguration {
    public var computeUnits = MLComputeUnits.all

    public init() {}
}

public struct MLShapedArray<Scalar> {
    public let scalars: [Scalar]
    public let shape: [Int]

    public init(scalars: [Scalar], shape: [Int]) {
        precondition(scalars.count == shape.reduce(1, *), "\(scalars.count) values for \(shape)")
        (self.scalars, self.shape) = (scalars, shape)
    }
}

public final class MLFeatureValue {
    let array: MLShapedArray<Float>?
    let pixelBuffer: CVPixelBuffer?

    public init(shapedArray: MLShapedArray<Float>) { (array, pixelBuffer) = (shapedArray, nil) }

    public init(pixelBuffer: CVPixelBuffer) { (array, self.pixelBuffer) = (nil, pixelBuffer) }

    public func shapedArrayValue(of type: Float.Type) -> MLShapedArray<Float>? { array }

    /// What the network sees.
    var floats: [Float] { array?.scalars ?? pixelBuffer!.rgb.map(Float.init) }
}

public protocol MLFeatureProvider {
    func featureValue(for name: String) -> MLFeatureValue?
}

public final class MLDictionaryFeatureProvider: MLFeatureProvider {
    let values: [String: MLFeatureValue]

    public init(dictionary: [String: Any]) throws {
        values = dictionary.mapValues { $0 as! MLFeatureValue }
    }

    public func featureValue(for name: String) -> MLFeatureValue? { values[name] }
}

public final class MLImageConstraint {
    public let pixelsWide: Int
    public let pixelsHigh: Int

    init(_ width: Int, _ height: Int) { (pixelsWide, pixelsHigh) = (width, height) }
}

public final class MLMultiArrayConstraint {
    public let shape: [NSNumber]

    init(_ shape: [Int]) { self.shape = shape.map { NSNumber(value: $0) } }
}

public final class MLFeatureDescription {
    public let imageConstraint: MLImageConstraint?
    public let multiArrayConstraint: MLMultiArrayConstraint?

    init(_ name: String, _ shape: [Int]) {
        let image = name == "image"
        imageConstraint = image ? MLImageConstraint(shape[2], shape[1]) : nil
        multiArrayConstraint = image ? nil : MLMultiArrayConstraint(shape)
    }
}

public final class MLModelDescription {
    public let inputDescriptionsByName: [String: MLFeatureDescription]

    init(_ shapes: [String: [Int]]) {
        inputDescriptionsByName = Dictionary(
            uniqueKeysWithValues: shapes.map { ($0, MLFeatureDescription($0, $1)) })
    }
}
