// The Swift sample's contract, in which the stand-in of Core ML checks all that reaches the files.
import CoreGraphics
import CoreML
import ImageIO
import XCTest

@testable import MobileSAM

private let folder = URL(fileURLWithPath: "/mnt/bundle")

private struct Index: Decodable {
    struct Prompt: Decodable {
        let name: String
        let points: [[Double]]
        let box: [Double]?
        let mask: String
    }

    struct Image: Decodable {
        let name: String
        let file: String
        let prompts: [Prompt]
    }

    let images: [Image]
}

final class LinuxTests: XCTestCase {
    private let golden = folder.appendingPathComponent("golden")

    private func index() throws -> Index {
        try JSONDecoder().decode(Index.self, from: Data(contentsOf: golden.appendingPathComponent("golden.json")))
    }

    private func open(_ name: String = "bundle") async throws -> MobileSAM {
        let models = URL(fileURLWithPath: "/mnt/\(name)")
        return try await MobileSAM(
            encoder: models.appendingPathComponent("encoder.mlpackage"),
            decoder: models.appendingPathComponent("decoder.mlpackage"))
    }

    private func withImage() async throws -> MobileSAM {
        let sam = try await open()
        try await sam.setImage(contentsOf: golden.appendingPathComponent("landscape/image.png"))
        return sam
    }

    /// All prompts as an app would give them.
    func testGoldenPromptsThroughTheAPI() async throws {
        let sam = try await open()
        for image in try index().images {
            try await sam.setImage(contentsOf: golden.appendingPathComponent(image.file))
            var click: Mask?
            for prompt in image.prompts {
                let mask = try await sam.segment(
                    points: prompt.points.map { PromptPoint(x: $0[0], y: $0[1], foreground: $0[2] == 1) },
                    box: prompt.box.map { CGRect(x: $0[0], y: $0[1], width: $0[2] - $0[0], height: $0[3] - $0[1]) },
                    previousMask: prompt.name == "click-mask" ? click : nil)
                if prompt.name == "click" { click = mask }
                let expected = try Pixels(contentsOf: golden.appendingPathComponent(prompt.mask))
                let white = stride(from: 0, to: expected.bytes.count, by: 4).map { expected.bytes[$0] > 127 }
                XCTAssertEqual(mask.size, expected.size)
                let iou = Mask.iou(mask.inside, white)
                print("# iou \(image.name) \(prompt.name) \(iou)")
                XCTAssertGreaterThanOrEqual(iou, 0.999, "\(image.name), \(prompt.name)")
            }
            XCTAssertNotNil(click)
        }
    }

    func testPreprocessingIsOneOf255OffAtMost() async throws {
        let report = try await open().selfTest(golden: folder)
        for image in report.images { XCTAssertLessThanOrEqual(image.preprocessingMax, 1, image.image) }
    }

    func testSelfTestNamesAWrongMask() async throws {
        let damaged = FileManager.default.temporaryDirectory.appendingPathComponent("damaged")
        try? FileManager.default.removeItem(at: damaged)
        try FileManager.default.copyItem(at: folder, to: damaged)
        let click = damaged.appendingPathComponent("golden/landscape/click/mask.png.rgba")
        try FileManager.default.removeItem(at: click)
        try FileManager.default.copyItem(at: golden.appendingPathComponent("landscape/box/mask.png.rgba"), to: click)
        let failures = try await open().selfTest(golden: damaged).failures
        XCTAssertTrue(failures.contains { $0.hasPrefix("landscape, click: IoU") }, "\(failures)")
    }

    func testTheEmbeddingIsKept() async throws {
        let sam = try await withImage()
        let prompt = try XCTUnwrap(index().images[0].prompts.first)
        let before = MLModel.runs
        for _ in 0..<3 {
            _ = try await sam.segment(points: prompt.points.map { PromptPoint(x: $0[0], y: $0[1]) })
        }
        XCTAssertEqual(MLModel.runs - before, 3)
    }

    func testWarmUpIsNoImage() async throws {
        let sam = try await open()
        try await sam.warmUp()
        await assertThrows(.noImage) { try await sam.segment(points: [PromptPoint(x: 1, y: 1)]) }
    }

    func testAFailedImageLeavesNone() async throws {
        let sam = try await withImage()
        let unknown = CGImage(width: 8, height: 8, rgba: [UInt8](repeating: 77, count: 256))
        do {
            try await sam.setImage(unknown)
            XCTFail("the stand-in knows no such image")
        } catch {
            XCTAssertTrue(error.localizedDescription.contains("no golden inputs"), "\(error)")
        }
        await assertThrows(.noImage) { try await sam.segment(points: [PromptPoint(x: 1, y: 1)]) }
    }

    /// Red 1, 2, 3 / 4, 5, 6 as EXIF's orientations store it; each is the same upright.
    func testEveryOrientationIsUpright() throws {
        let stored: [(Int, Int, [UInt8])] = [
            (3, 2, [1, 2, 3, 4, 5, 6]), (3, 2, [3, 2, 1, 6, 5, 4]), (3, 2, [6, 5, 4, 3, 2, 1]),
            (3, 2, [4, 5, 6, 1, 2, 3]), (2, 3, [1, 4, 2, 5, 3, 6]), (2, 3, [3, 6, 2, 5, 1, 4]),
            (2, 3, [6, 3, 5, 2, 4, 1]), (2, 3, [4, 1, 5, 2, 6, 3]),
        ]
        for (orientation, (width, height, red)) in stored.enumerated() {
            let image = CGImage(width: width, height: height, rgba: red.flatMap { [$0, 0, 0, 255] })
            let orientation = try XCTUnwrap(CGImagePropertyOrientation(rawValue: UInt32(orientation + 1)))
            let pixels = try Pixels(image, orientation: orientation)
            XCTAssertEqual(pixels.size, ImageSize(width: 3, height: 2))
            let upright = (0..<2).flatMap { y in
                (0..<3).map { pixels.bytes[pixels.origin + $0 * pixels.stepX + y * pixels.stepY] }
            }
            XCTAssertEqual(upright, [1, 2, 3, 4, 5, 6], "orientation \(orientation.rawValue)")
        }
    }

    func testTheOverlayIsOfTheImagesSize() throws {
        let mask = Mask(size: ImageSize(width: 3, height: 1), inside: [false, true, true], score: 1, logits: [])
        let overlay = try XCTUnwrap(mask.overlay(red: 1, green: 0, blue: 0, opacity: 0.5))
        XCTAssertEqual(overlay.rgba, [0, 0, 0, 0, 127, 0, 0, 127, 127, 0, 0, 127])
        XCTAssertEqual(mask.area, 2)
    }

    func testPromptsWithoutAnAnswerAreRefused() async throws {
        let sam = try await withImage()
        await assertThrows(.emptyPrompt) { try await sam.segment() }
        await assertThrows(.emptyBox) { try await sam.segment(box: CGRect(x: 9, y: 9, width: 0, height: 5)) }
        let five = [PromptPoint](repeating: PromptPoint(x: 1, y: 1), count: 5)
        await assertThrows(.tooManyPoints(found: 7, limit: 6)) {
            try await sam.segment(points: five, box: CGRect(x: 0, y: 0, width: 5, height: 5))
        }
        let other = Mask(size: ImageSize(width: 1, height: 1), inside: [true], score: 0, logits: [])
        let size = try Pixels(contentsOf: golden.appendingPathComponent("landscape/image.png")).size
        await assertThrows(.wrongMask(found: "1 x 1", expected: "\(size)")) {
            try await sam.segment(points: [PromptPoint(x: 1, y: 1)], previousMask: other)
        }
        for x in [-1, 1e6] {
            await assertThrows(.outsideImage(x: x, y: 5, width: size.width, height: size.height)) {
                try await sam.segment(points: [PromptPoint(x: x, y: 5)])
            }
        }
        do {
            _ = try await sam.segment(points: [PromptPoint(x: .nan, y: 5)])
            XCTFail("NaN is outside")
        } catch {
            XCTAssertTrue(error.localizedDescription.contains("is outside the image"), "\(error)")
        }
    }

    func testImagesThatAreNoneAreRefused() async throws {
        let sam = try await open()
        for name in ["golden/golden.json", "golden/none.jpg"] {
            let url = folder.appendingPathComponent(name)
            await assertThrows(.unreadableImage("\(url.lastPathComponent) is missing or no image")) {
                try await sam.setImage(contentsOf: url)
            }
        }
    }

    func testWrongFilesAreNamed() async throws {
        await assertThrows(.wrongFile(file: "decoder.mlpackage", reason: "is missing")) { try await open("missing") }
        await assertThrows(.wrongFile(file: "encoder.mlpackage", reason: "cannot be read (no ML program)")) {
            try await open("damaged")
        }
        do {
            _ = try await open("swapped")
            XCTFail("a decoder is no encoder")
        } catch {
            let words = "encoder.mlpackage is no encoder (it takes has_mask"
            XCTAssertTrue(error.localizedDescription.hasPrefix(words), "\(error)")
        }
        let place = Bundle.main.bundleURL.lastPathComponent
        await assertThrows(.wrongFile(file: "encoder.mlpackage", reason: "is not in \(place)")) {
            try await MobileSAM()
        }
    }

    func testErrorsSayWhatToDo() {
        XCTAssertEqual(
            MobileSAMError.tooManyPoints(found: 7, limit: 6).localizedDescription,
            "the prompt takes 7 slots (a box takes two) and this decoder has 6: "
                + "leave out points, or export with --points 7")
    }

    private func assertThrows<T>(
        _ expected: MobileSAMError, line: UInt = #line, _ body: () async throws -> T
    ) async {
        do {
            _ = try await body()
            XCTFail("nothing was thrown; expected: \(expected.localizedDescription)", line: line)
        } catch {
            XCTAssertEqual(error as? MobileSAMError, expected, "\(error)", line: line)
        }
    }
}
