package android.app;

import android.content.Context;

/** Of a test: the assets of the app (`getTargetContext`) and of the test itself (`getContext`). */
public class Instrumentation {
    private final Context target;
    private final Context own;

    public Instrumentation(Context target, Context own) {
        this.target = target;
        this.own = own;
    }

    public Context getTargetContext() {
        return target;
    }

    public Context getContext() {
        return own;
    }
}
