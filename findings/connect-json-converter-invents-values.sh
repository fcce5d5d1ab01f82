#!/usr/bin/env bash
# Guess:     Kafka Connect's JSON converter refuses a number that its type cannot hold, and a payload of another kind than the schema
#            beside it says.
# Happens:   It takes them all. A whole number beyond 64 bits is what remains of its low bits (18446744073709551615 is -1), 1.9 is 1,
#            the text "12" for an int64 is 0, true as a text or as 1 is false, 1e300 for a float is infinity, a number where a text
#            is required is null, and what follows the first document in the same value is skipped. A connector, a transform or a
#            sink behind it cannot tell such a value from a real one, and error tolerance and the dead letter queue never see it.
# Versions:  org.apache.kafka:connect-json 4.3.1
# pressline: reads JSON itself: a number out of range, another kind of value and text after the document are dead letters.
set -euo pipefail
. "$(dirname "$0")/common.sh"

maven_install org.apache.kafka:connect-json:4.3.1
run_java <<'END'
import java.util.Map;
import org.apache.kafka.connect.json.JsonConverter;

public class Finding {
    static JsonConverter converter(boolean schemas) {
        var converter = new JsonConverter();
        converter.configure(Map.of("schemas.enable", String.valueOf(schemas)), false);
        return converter;
    }

    static String read(JsonConverter converter, String json) {
        try {
            return String.valueOf(converter.toConnectData("topic", json.getBytes()).value());
        } catch (Exception error) {
            return "refused";
        }
    }

    public static void main(String[] none) {
        System.out.println("connect-json " + org.apache.kafka.common.utils.AppInfoParser.getVersion());
        var plain = converter(false);
        for (String json : new String[] {"9223372036854775807", "9223372036854775808", "18446744073709551615",
                "{\"id\": 1} {\"id\": 2}", "{\"id\": 1"}) {
            System.out.println("without schema, " + json + ": " + read(plain, json));
        }
        var declared = converter(true);
        for (String[] pair : new String[][] {{"int64", "1.9"}, {"int64", "\"12\""}, {"int32", "5000000000"}, {"int8", "300"},
                {"boolean", "\"true\""}, {"boolean", "1"}, {"float", "1e300"}, {"double", "\"1.5\""}, {"string", "5"}}) {
            var json = "{\"schema\": {\"type\": \"" + pair[0] + "\", \"optional\": false}, \"payload\": " + pair[1] + "}";
            System.out.println(pair[0] + ", " + pair[1] + ": " + read(declared, json));
        }
    }
}
END
as_stated <<'END'
connect-json 4.3.1
without schema, 9223372036854775807: 9223372036854775807
without schema, 9223372036854775808: -9223372036854775808
without schema, 18446744073709551615: -1
without schema, {"id": 1} {"id": 2}: {id=1}
without schema, {"id": 1: refused
int64, 1.9: 1
int64, "12": 0
int32, 5000000000: 705032704
int8, 300: 44
boolean, "true": false
boolean, 1: false
float, 1e300: Infinity
double, "1.5": 0.0
string, 5: null
END
