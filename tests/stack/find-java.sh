#!/usr/bin/env bash
# Prints the path of a java that is 17 or newer, as Kafka 4 needs; exits 1 where there is none.
set -euo pipefail

for java in ${JAVA_HOME:+"$JAVA_HOME/bin/java"} "$(command -v java || true)" /usr/lib/jvm/*/bin/java; do
    [ -x "$java" ] || continue
    version=$("$java" -XshowSettings:properties -version 2>&1 | sed -n 's/.*java\.specification\.version = //p')
    if [ "${version%%.*}" -ge 17 ] 2>/dev/null; then
        echo "$java"
        exit 0
    fi
done
echo "No Java 17 or newer found; run tests/stack/prerequisites.sh" >&2
exit 1
