// swift-tools-version:5.9
import PackageDescription

let package = Package(
    name: "MobileSAMLatency",
    platforms: [.iOS(.v@IOS@), .macOS(.v@MACOS@)],
    targets: [
        .testTarget(
            name: "MobileSAMLatencyTests",
            path: "Tests",
            resources: [.copy("Models"), .copy("Golden")]
        )
    ]
)
