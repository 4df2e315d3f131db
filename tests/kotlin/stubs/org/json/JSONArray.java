package org.json;

import java.util.List;

public class JSONArray {
    private final List<Object> values;

    JSONArray(List<Object> values) {
        this.values = values;
    }

    public int length() {
        return values.size();
    }

    public JSONObject getJSONObject(int index) {
        return (JSONObject) values.get(index);
    }

    public JSONArray getJSONArray(int index) {
        return (JSONArray) values.get(index);
    }

    public double getDouble(int index) {
        return (Double) values.get(index);
    }

    public int getInt(int index) {
        return ((Double) values.get(index)).intValue();
    }
}
