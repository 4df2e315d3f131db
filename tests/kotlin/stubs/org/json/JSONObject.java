package org.json;

import java.util.Map;

public class JSONObject {
    private final Map<String, Object> values;

    JSONObject(Map<String, Object> values) {
        this.values = values;
    }

    public JSONObject(String text) {
        this(((JSONObject) new Parser(text).value()).values);
    }

    public String getString(String key) {
        return (String) get(key);
    }

    public int getInt(String key) {
        return ((Double) get(key)).intValue();
    }

    public JSONObject getJSONObject(String key) {
        return (JSONObject) get(key);
    }

    public JSONArray getJSONArray(String key) {
        return (JSONArray) get(key);
    }

    public JSONObject optJSONObject(String key) {
        return values.get(key) instanceof JSONObject found ? found : null;
    }

    public double optDouble(String key) {
        return values.get(key) instanceof Double found ? found : Double.NaN;
    }

    public boolean isNull(String key) {
        return values.get(key) == null;
    }

    private Object get(String key) {
        if (values.get(key) == null) throw new IllegalStateException("No value for " + key);
        return values.get(key);
    }
}
