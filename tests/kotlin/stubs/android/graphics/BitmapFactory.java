package android.graphics;

import java.awt.image.BufferedImage;
import java.io.IOException;
import java.io.InputStream;
import javax.imageio.ImageIO;

public class BitmapFactory {
    /** Null where nothing can be decoded, as on Android. */
    public static Bitmap decodeStream(InputStream stream) {
        try {
            BufferedImage image = ImageIO.read(stream);
            if (image == null) return null;
            int width = image.getWidth();
            int height = image.getHeight();
            int[] pixels = image.getRGB(0, 0, width, height, null, 0, width);
            return Bitmap.createBitmap(pixels, width, height, Bitmap.Config.ARGB_8888);
        } catch (IOException exc) {
            return null;
        }
    }
}
