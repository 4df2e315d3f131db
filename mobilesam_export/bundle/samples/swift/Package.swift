// swift-tools-version:5.9
import PackageDescription

// The least system that the two packages ask for, such as iOS16; macOS 13, 14, 15 are of its time.
let ios = Int("{{minimum_deployment_target}}".dropFirst(3))!

let package = Package(
    name: "MobileSAM",
    platforms: [.iOS("\(ios).0"), .macOS("\(ios - 3).0")],
    products: [.library(name: "MobileSAM", targets: ["MobileSAM"])],
    targets: [
        .target(name: "MobileSAM"),
        .testTarget(name: "MobileSAMTests", dependencies: ["MobileSAM"]),
    ]
)
