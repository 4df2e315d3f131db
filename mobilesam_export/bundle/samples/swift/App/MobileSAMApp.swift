import SwiftUI

@main
struct MobileSAMApp: App {
    var body: some Scene {
        WindowGroup { ContentView() }
    }
}
