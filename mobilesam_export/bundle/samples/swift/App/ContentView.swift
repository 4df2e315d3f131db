import MobileSAM
import PhotosUI
import SwiftUI

/// Pick a photo, tap, see the mask. A second tap refines it; "Background" marks what is not part of it.
struct ContentView: View {
    @StateObject private var model = SegmentationModel()
    @State private var photo: PhotosPickerItem?
    @State private var foreground = true

    var body: some View {
        VStack {
            GeometryReader { view in
                if let image = model.image {
                    ZStack {
                        Image(decorative: image, scale: 1).resizable()
                        if let overlay = model.overlay { Image(decorative: overlay, scale: 1).resizable() }
                    }
                    .aspectRatio(CGSize(width: image.width, height: image.height), contentMode: .fit)
                    .position(x: view.size.width / 2, y: view.size.height / 2)
                    .onTapGesture { location in
                        model.tap(at: location, in: view.size, foreground: foreground)
                    }
                }
            }
            Text(model.status).font(.footnote)
            HStack {
                PhotosPicker("Photo", selection: $photo, matching: .images)
                Toggle("Foreground", isOn: $foreground).fixedSize()
                Button("Start over") { model.startOver() }
                Button("Self-test") { model.selfTest() }
            }
            .buttonStyle(.bordered)
        }
        .padding()
        .task { await model.load() }
        .onChange(of: photo) { item in model.show(item) }
    }
}

@MainActor
final class SegmentationModel: ObservableObject {
    @Published private(set) var image: CGImage?
    @Published private(set) var overlay: CGImage?
    @Published private(set) var status = "Loading..."
    private var sam: MobileSAM?
    private var points: [PromptPoint] = []
    private var mask: Mask?

    func load() async {
        await attempt("Pick a photo") {
            let sam = try await MobileSAM()
            try await sam.warmUp()
            self.sam = sam
        }
    }

    func show(_ item: PhotosPickerItem?) {
        guard let item, let sam else { return }
        startOver()
        Task {
            await attempt("Tap what you want") {
                guard let data = try await item.loadTransferable(type: Data.self),
                    let photo = UIImage(data: data)?.upright
                else { throw MobileSAMError.unreadableImage("Photos gave no image") }
                image = photo
                status = "Encoding..."
                try await sam.setImage(photo)
            }
        }
    }

    /// - Parameters:
    ///   - location: in the view, in which the image is fitted and centered.
    ///   - view: its size.
    func tap(at location: CGPoint, in view: CGSize, foreground: Bool) {
        guard let image, let sam else { return }
        let scale = min(view.width / CGFloat(image.width), view.height / CGFloat(image.height))
        let left = (view.width - scale * CGFloat(image.width)) / 2
        let top = (view.height - scale * CGFloat(image.height)) / 2
        let (x, y) = ((location.x - left) / scale, (location.y - top) / scale)
        let point = PromptPoint(x: x, y: y, foreground: foreground)
        points.append(point)
        let asked = points, previous = mask
        Task {
            await attempt("") {
                do {
                    let mask = try await sam.segment(points: asked, previousMask: previous)
                    self.mask = mask
                    overlay = mask.overlay()
                    status = "IoU \(String(format: "%.2f", mask.score)) by the model's own estimate"
                } catch {
                    points.removeAll { $0 == point }  // or every later tap would fail with it
                    throw error
                }
            }
        }
    }

    func startOver() {
        (points, mask, overlay) = ([], nil, nil)
    }

    /// Needs `manifest.json` and `golden` among the app's resources.
    func selfTest() {
        guard let sam, let folder = Bundle.main.resourceURL else { return }
        Task { await attempt("") { status = try await sam.selfTest(golden: folder).description } }
    }

    private func attempt(_ done: String, _ body: () async throws -> Void) async {
        do {
            try await body()
            if !done.isEmpty { status = done }
        } catch {
            status = error.localizedDescription
        }
    }
}

extension UIImage {
    /// Redrawn so that its pixels are upright; `cgImage` alone ignores `imageOrientation`.
    var upright: CGImage? {
        let format = UIGraphicsImageRendererFormat()
        format.scale = 1
        let size = CGSize(width: size.width * scale, height: size.height * scale)
        return UIGraphicsImageRenderer(size: size, format: format)
            .image { _ in draw(in: CGRect(origin: .zero, size: size)) }.cgImage
    }
}
