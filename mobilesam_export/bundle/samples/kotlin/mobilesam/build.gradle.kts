plugins {
    id("com.android.library") version "8.13.0"
    id("org.jetbrains.kotlin.android") version "2.3.20"
}

// The files lie at the top of the bundle, which holds this project as sample/kotlin.
val models by tasks.registering(Sync::class) {
    from(rootDir.resolve("../..")) {
        include("{{encoder}}", "{{decoder}}")
    }
    into(layout.buildDirectory.dir("models"))
}
val golden by tasks.registering(Sync::class) {
    from(rootDir.resolve("../..")) {
        include("manifest.json", "golden/**")
    }
    into(layout.buildDirectory.dir("golden"))
}
tasks.named("preBuild") { dependsOn(models, golden) }

android {
    namespace = "mobilesam"
    compileSdk = 36
    defaultConfig {
        minSdk = 24 // what LiteRT 2.3.0 asks for
        testInstrumentationRunner = "androidx.test.runner.AndroidJUnitRunner"
    }
    androidResources { noCompress += "tflite" } // so that the file can be mapped into memory
    sourceSets {
        getByName("main") { assets.srcDir(layout.buildDirectory.dir("models").get().asFile) }
        getByName("androidTest") { assets.srcDir(layout.buildDirectory.dir("golden").get().asFile) }
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

kotlin { jvmToolchain(17) }

dependencies {
    // The version that these files were verified with, on a PC.
    implementation("com.google.ai.edge.litert:litert:2.3.0")
    implementation("com.google.ai.edge.litert:litert-gpu:2.3.0")
    androidTestImplementation("androidx.test:runner:1.7.0")
    androidTestImplementation("androidx.test.ext:junit:1.3.0")
}
