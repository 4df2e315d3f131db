package org.junit;

public class Assert {
    public static void assertEquals(String message, Object expected, Object actual) {
        if (!expected.equals(actual)) {
            throw new AssertionError(message + ": expected " + expected + ", found " + actual);
        }
    }
}
