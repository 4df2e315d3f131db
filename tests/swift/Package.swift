// swift-tools-version:5.9
import PackageDescription

// The sample with stand-ins of Apple's frameworks, so that Linux compiles and runs it.
let frameworks: [Target.Dependency] = ["CoreGraphics", "CoreML", "CoreVideo", "ImageIO"]

let package = Package(
    name: "MobileSAM",
    targets: [
        .target(name: "CoreGraphics", path: "stubs/CoreGraphics"),
        .target(name: "ImageIO", dependencies: ["CoreGraphics"], path: "stubs/ImageIO"),
        .target(name: "CoreVideo", path: "stubs/CoreVideo"),
        .target(name: "CoreML", dependencies: ["CoreVideo"], path: "stubs/CoreML"),
        .target(name: "SwiftUI", dependencies: ["CoreGraphics"], path: "stubs/SwiftUI"),
        .target(name: "PhotosUI", dependencies: ["SwiftUI"], path: "stubs/PhotosUI"),
        .target(name: "MobileSAM", dependencies: frameworks, path: "bundle/sample/swift/Sources/MobileSAM"),
        .testTarget(
            name: "MobileSAMTests", dependencies: ["MobileSAM"], path: "bundle/sample/swift/Tests/MobileSAMTests"),
        // Type-checked only: nothing on Linux can show it.
        .executableTarget(name: "App", dependencies: ["MobileSAM", "SwiftUI", "PhotosUI"], path: "bundle/sample/swift/App"),
        .testTarget(name: "LinuxTests", dependencies: ["MobileSAM"] + frameworks, path: "LinuxTests"),
    ]
)
