package android.graphics;

/** (x, y) -> (a x + b y, c x + d y), for quarter turns and flips. */
public class Matrix {
    int a = 1;
    int b = 0;
    int c = 0;
    int d = 1;

    public boolean postRotate(float degrees) {
        for (int turns = Math.round(degrees / 90); turns > 0; turns--) {
            int oldA = a;
            int oldB = b; // clockwise, as y points down: (x, y) -> (-y, x)
            a = -c;
            b = -d;
            c = oldA;
            d = oldB;
        }
        return true;
    }

    public boolean postScale(float x, float y) {
        a *= (int) x;
        b *= (int) x;
        c *= (int) y;
        d *= (int) y;
        return true;
    }
}
