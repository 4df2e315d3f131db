package android.content.res;

import java.io.Closeable;
import java.io.File;
import java.io.FileDescriptor;
import java.io.IOException;
import java.io.RandomAccessFile;

public class AssetFileDescriptor implements Closeable {
    private final RandomAccessFile file;

    AssetFileDescriptor(File path) throws IOException {
        file = new RandomAccessFile(path, "r");
    }

    public FileDescriptor getFileDescriptor() {
        try {
            return file.getFD();
        } catch (IOException exc) {
            throw new IllegalStateException(exc);
        }
    }

    public long getStartOffset() {
        return 0;
    }

    public long getDeclaredLength() {
        try {
            return file.length();
        } catch (IOException exc) {
            throw new IllegalStateException(exc);
        }
    }

    @Override
    public void close() throws IOException {
        file.close();
    }
}
