// swift-tools-version:6.2
import PackageDescription

let package = Package(
    name: "MobileSAM",
    platforms: [.iOS("{{minimum_os}}.0"), .macOS("{{minimum_os}}.0")],
    products: [.library(name: "MobileSAM", targets: ["MobileSAM"])],
    targets: [
        .target(name: "MobileSAM"),
        .testTarget(name: "MobileSAMTests", dependencies: ["MobileSAM"]),
    ],
    swiftLanguageModes: [.v5]
)
