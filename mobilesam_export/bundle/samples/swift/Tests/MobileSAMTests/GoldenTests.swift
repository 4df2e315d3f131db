import Foundation
import XCTest

import MobileSAM

/// This device against PyTorch's answers in the bundle. On a Mac: `swift test`; the files are found three
/// folders up. On a device: test the scheme of the app, which holds them.
final class GoldenTests: XCTestCase {
    /// The bundle that this sample lies in, or the app that hosts these tests.
    static var folder: URL {
        if Bundle.main.url(forResource: "golden", withExtension: nil) != nil {
            return Bundle.main.resourceURL!
        }
        let sample = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        return sample.deletingLastPathComponent().deletingLastPathComponent()
    }

    func open() async throws -> MobileSAM {
        if Bundle.main.url(forResource: "golden", withExtension: nil) != nil {
            return try await MobileSAM()
        }
        return try await MobileSAM(
            encoder: Self.folder.appendingPathComponent("{{encoder}}"),
            decoder: Self.folder.appendingPathComponent("{{decoder}}"))
    }

    func testAnswersLikePyTorch() async throws {
        let report = try await open().selfTest(golden: Self.folder)
        print(report)
        XCTAssertEqual(report.failures, [])
        XCTAssertFalse(report.prompts.isEmpty)
    }

    func testAnImageIsNeededFirst() async throws {
        let sam = try await open()
        await assertThrows(.noImage) { try await sam.segment(points: [PromptPoint(x: 1, y: 1)]) }
    }

    func testTooManyPointsAreRefused() async throws {
        let sam = try await open()
        try await sam.setImage(contentsOf: Self.folder.appendingPathComponent("golden/landscape/image.png"))
        let limit = sam.contract.slots
        let points = [PromptPoint](repeating: PromptPoint(x: 1, y: 1), count: limit + 1)
        await assertThrows(.tooManyPoints(found: limit + 1, limit: limit)) { try await sam.segment(points: points) }
    }

    func testNothingAnswersAfterClose() async throws {
        let sam = try await open()
        await sam.close()
        await assertThrows(.closed) { try await sam.warmUp() }
    }
}

func assertThrows<T>(
    _ expected: MobileSAMError, file: StaticString = #filePath, line: UInt = #line,
    _ body: () async throws -> T
) async {
    do {
        _ = try await body()
        XCTFail("nothing was thrown; expected: \(expected.localizedDescription)", file: file, line: line)
    } catch {
        XCTAssertEqual(error as? MobileSAMError, expected, "\(error)", file: file, line: line)
    }
}
