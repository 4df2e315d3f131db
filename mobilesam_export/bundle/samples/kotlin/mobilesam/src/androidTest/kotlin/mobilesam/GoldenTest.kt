package mobilesam

import android.util.Log
import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
import org.junit.Assert.assertEquals
import org.junit.Test
import org.junit.runner.RunWith

/** The whole way on this device against PyTorch's answers: `./gradlew connectedAndroidTest`. */
@RunWith(AndroidJUnit4::class)
class GoldenTest {
    @Test
    fun answersLikePyTorch() {
        val instrumentation = InstrumentationRegistry.getInstrumentation()
        val golden = instrumentation.context.assets // of the test
        MobileSam.open(instrumentation.targetContext).use { sam ->
            val report = sam.selfTest { golden.open(it) }
            Log.i("MobileSAM", "$report${sam.fallback?.let { "not on the GPU: $it" }.orEmpty()}")
            assertEquals("$report", emptyList<String>(), report.failures)
        }
    }
}
