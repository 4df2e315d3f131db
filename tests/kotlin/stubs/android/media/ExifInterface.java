package android.media;

import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** The orientation of a JPEG file; other files have none. */
public class ExifInterface {
    public static final String TAG_ORIENTATION = "Orientation";
    public static final int ORIENTATION_NORMAL = 1;
    public static final int ORIENTATION_FLIP_HORIZONTAL = 2;
    public static final int ORIENTATION_ROTATE_180 = 3;
    public static final int ORIENTATION_FLIP_VERTICAL = 4;
    public static final int ORIENTATION_TRANSPOSE = 5;
    public static final int ORIENTATION_ROTATE_90 = 6;
    public static final int ORIENTATION_TRANSVERSE = 7;
    public static final int ORIENTATION_ROTATE_270 = 8;
    private static final int APP1 = 0xFFE1;
    private static final int TAG = 0x0112;

    private final int orientation;

    public ExifInterface(InputStream stream) throws IOException {
        orientation = orientation(ByteBuffer.wrap(stream.readAllBytes()));
    }

    public int getAttributeInt(String tag, int missing) {
        return orientation == 0 ? missing : orientation;
    }

    private static int orientation(ByteBuffer file) {
        if (file.remaining() < 4 || (file.getShort(0) & 0xFFFF) != 0xFFD8) return 0;
        int at = 2;
        while (at + 4 < file.limit() && (file.getShort(at) & 0xFFFF) != APP1) {
            if (file.get(at) != -1) return 0;
            at += 2 + (file.getShort(at + 2) & 0xFFFF);
        }
        return at + 18 > file.limit() ? 0 : inDirectory(file.position(at + 10).slice());
    }

    private static int inDirectory(ByteBuffer tiff) {
        tiff.order(tiff.get(0) == 'I' ? ByteOrder.LITTLE_ENDIAN : ByteOrder.BIG_ENDIAN);
        int directory = tiff.getInt(4);
        for (int entry = 0; entry < tiff.getShort(directory); entry++) {
            int at = directory + 2 + 12 * entry;
            if (tiff.getShort(at) == TAG) return tiff.getShort(at + 8);
        }
        return 0;
    }
}
