package mobilesam

/**
 * What the two files expect. The values are those of the bundle that this sample was written for.
 *
 * @property side S: the encoder's input is S x S pixels.
 * @property slots points that the decoder takes; a box takes two.
 * @property floatImage whether the encoder takes float32 pixels 0..255, otherwise uint8.
 * @property fill RGB of the padding right of or below the image.
 */
data class Contract(
    val side: Int = {{side}},
    val slots: Int = {{slots}},
    val floatImage: Boolean = "{{image_dtype}}" == "float32",
    val fill: List<Int> = listOf({{fill_red}}, {{fill_green}}, {{fill_blue}}),
) {
    /** Side of a low-resolution mask. */
    val maskSide: Int get() = side / 4

    /** Values in a low-resolution mask. */
    val maskSize: Int get() = maskSide * maskSide

    /** Values in an embedding: 256 x S/16 x S/16. */
    val embeddingSize: Int get() = 256 * (side / 16) * (side / 16)
}

/** File names in the assets. */
internal const val ENCODER = "{{encoder}}"
internal const val DECODER = "{{decoder}}"
