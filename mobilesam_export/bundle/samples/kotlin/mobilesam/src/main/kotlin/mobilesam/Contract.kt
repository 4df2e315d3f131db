package mobilesam

/**
 * What the two files expect. The values are those of the bundle that this sample was written for.
 *
 * @property width W: the encoder's input is W x H pixels.
 * @property height H.
 * @property slots points that the decoder takes; a box takes two.
 * @property floatImage whether the encoder takes float32 pixels 0..255, otherwise uint8.
 * @property fill RGB of the padding right of or below the image.
 */
data class Contract(
    val width: Int = {{width}},
    val height: Int = {{height}},
    val slots: Int = {{slots}},
    val floatImage: Boolean = "{{image_dtype}}" == "float32",
    val fill: List<Int> = listOf({{fill_red}}, {{fill_green}}, {{fill_blue}}),
) {
    /** Of the encoder's input. */
    val input: ImageSize get() = ImageSize(width, height)

    /** Values in a low-resolution mask, H/4 x W/4. */
    val maskSize: Int get() = (height / 4) * (width / 4)

    /** Values in an embedding: 256 x H/16 x W/16. */
    val embeddingSize: Int get() = 256 * (height / 16) * (width / 16)
}

/** File names in the assets. */
internal const val ENCODER = "{{encoder}}"
internal const val DECODER = "{{decoder}}"
