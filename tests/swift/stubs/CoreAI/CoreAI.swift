// Core AI as far as the sample uses it, to type-check it: nothing here runs. The signatures are those that
// Apple's package coreai-models (commit 86b363d) calls; names that no call of it needs are our own.
@_exported import Foundation

public struct SpecializationOptions: Sendable {
    public enum ComputeUnitKind: Sendable { case cpu, gpu, neuralEngine }

    public init(preferredComputeUnitKind: ComputeUnitKind) {}
}

public struct AIModel {
    public init(contentsOf url: URL, options: SpecializationOptions) async throws { fatalError("a stand-in") }

    public func loadFunction(named name: String) throws -> InferenceFunction? { nil }
}

public struct InferenceFunction {
    public let descriptor: InferenceFunctionDescriptor

    public func run(inputs: [String: NDArray]) async throws -> InferenceOutputs { fatalError("a stand-in") }
}

public struct InferenceFunctionDescriptor {
    public let inputNames: [String]
    public let outputNames: [String]

    public func inputDescriptor(of name: String) -> InferenceValueDescriptor? { nil }
}

public enum InferenceValueDescriptor {
    case ndArray(NDArrayDescriptor)
    case image
}

public struct InferenceOutputs {
    public struct Value { public let ndArray: NDArray? }

    public mutating func remove(_ name: String) -> Value? { nil }
}

public struct NDArrayDescriptor {
    public let shape: [Int]
}

public struct NDArray {
    public let shape: [Int]

    public init(descriptor: NDArrayDescriptor) { shape = descriptor.shape }

    public func view<Scalar: BitwiseCopyable>(as type: Scalar.Type) -> View<Scalar> { fatalError("a stand-in") }

    public mutating func mutableView<Scalar: BitwiseCopyable>(as type: Scalar.Type) -> MutableView<Scalar> {
        fatalError("a stand-in")
    }

    /// Stands for Span<Int>, which is no sequence; Swift has that from 6.2 on.
    public struct Numbers {
        public let count: Int
        public subscript(_ index: Int) -> Int { 0 }
    }

    public struct View<Scalar: BitwiseCopyable> {
        public func withUnsafePointer<Result>(
            _ body: (UnsafePointer<Scalar>, Numbers, Numbers) throws -> Result
        ) rethrows -> Result { fatalError("a stand-in") }
    }

    public struct MutableView<Scalar: BitwiseCopyable> {
        public mutating func copyElements(fromContentsOf elements: some Collection<Scalar>) {}
    }
}
