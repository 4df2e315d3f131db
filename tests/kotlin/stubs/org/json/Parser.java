package org.json;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** As much of JSON as Python's json.dumps writes: objects, arrays, strings, numbers, true, false, null. */
class Parser {
    private final String text;
    private int at;

    Parser(String text) {
        this.text = text;
    }

    Object value() {
        switch (next()) {
            case '{': return new JSONObject(object());
            case '[': return new JSONArray(array());
            case '"': return string();
            default: return word();
        }
    }

    private char next() {
        while (Character.isWhitespace(text.charAt(at)) || ",:".indexOf(text.charAt(at)) >= 0) at++;
        return text.charAt(at);
    }

    private Map<String, Object> object() {
        Map<String, Object> result = new HashMap<>();
        at++;
        while (next() != '}') {
            String key = string();
            result.put(key, value());
        }
        at++;
        return result;
    }

    private List<Object> array() {
        List<Object> result = new ArrayList<>();
        at++;
        while (next() != ']') result.add(value());
        at++;
        return result;
    }

    private String string() {
        StringBuilder result = new StringBuilder();
        for (at++; text.charAt(at) != '"'; at++) {
            if (text.charAt(at) == '\\') {
                at++;
                if (text.charAt(at) == 'u') {
                    result.append((char) Integer.parseInt(text.substring(at + 1, at + 5), 16));
                    at += 4;
                    continue;
                }
            }
            result.append(text.charAt(at));
        }
        at++;
        return result.toString();
    }

    private Object word() {
        int start = at;
        while (at < text.length() && ",]} \n".indexOf(text.charAt(at)) < 0) at++;
        String word = text.substring(start, at);
        switch (word) {
            case "null": return null;
            case "true": return true;
            case "false": return false;
            default: return Double.valueOf(word);
        }
    }
}
