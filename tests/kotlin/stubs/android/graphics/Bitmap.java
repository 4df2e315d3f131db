package android.graphics;

/** Pixels as 0xAARRGGBB; those of a HARDWARE bitmap cannot be read, as on Android. */
public final class Bitmap {
    public enum Config { ALPHA_8, RGB_565, ARGB_8888, RGBA_F16, HARDWARE }

    private final int[] pixels;
    private final int width;
    private final int height;
    private final Config config;
    private boolean recycled;

    private Bitmap(int[] pixels, int width, int height, Config config) {
        this.pixels = pixels;
        this.width = width;
        this.height = height;
        this.config = config;
    }

    public static Bitmap createBitmap(int[] colors, int width, int height, Config config) {
        return new Bitmap(colors.clone(), width, height, config);
    }

    public static Bitmap createBitmap(
            Bitmap source, int x, int y, int width, int height, Matrix matrix, boolean filter) {
        boolean turned = matrix.a == 0;
        int toWidth = turned ? height : width;
        int toHeight = turned ? width : height;
        int[] result = new int[width * height];
        for (int row = 0; row < height; row++) {
            for (int column = 0; column < width; column++) {
                int toX = matrix.a * column + matrix.b * row;
                int toY = matrix.c * column + matrix.d * row;
                toX += matrix.a + matrix.b < 0 ? toWidth - 1 : 0;
                toY += matrix.c + matrix.d < 0 ? toHeight - 1 : 0;
                result[toY * toWidth + toX] = source.pixels[(y + row) * source.width + x + column];
            }
        }
        return new Bitmap(result, toWidth, toHeight, source.config);
    }

    public Bitmap copy(Config config, boolean mutable) {
        return new Bitmap(pixels.clone(), width, height, config);
    }

    public void getPixels(int[] to, int offset, int stride, int x, int y, int width, int height) {
        if (config == Config.HARDWARE || recycled) {
            throw new IllegalStateException("unable to getPixels(): " + config);
        }
        for (int row = 0; row < height; row++) {
            System.arraycopy(pixels, (y + row) * this.width + x, to, offset + row * stride, width);
        }
    }

    public void recycle() {
        recycled = true;
    }

    public int getWidth() {
        return width;
    }

    public int getHeight() {
        return height;
    }

    public Config getConfig() {
        return config;
    }
}
