import Foundation

extension SelfTest {
    /// Run every image and prompt of `folder`/golden.
    init(folder: URL, runtime: Runtime, contract: Contract) async throws {
        self.init()
        let golden = folder.appendingPathComponent("golden")
        for image in try Golden(golden).images {
            let pixels = try Pixels(contentsOf: golden.appendingPathComponent(image.file))
            let input = encoderInput(pixels, contract: contract)
            let embedding = try await runtime.encode(input)
            let expected = try add(image, input, embedding, golden)
            for prompt in image.prompts {
                let inputs = try prompt.inputs(of: pixels.size, in: golden, contract: contract)
                let alone = try await runtime.decode(expected, inputs)
                let both = try await runtime.decode(embedding, inputs)
                try add(
                    image, prompt, alone: alone, both: both, size: pixels.size, contract: contract, golden)
            }
        }
        try judge(folder)
    }
}
