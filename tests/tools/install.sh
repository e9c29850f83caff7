#!/usr/bin/env bash
# Installs what tests (and with "bench" the benchmarks) run against into .tools/ of the checkout.
#
#   tests/tools/install.sh          what `make test` needs
#   tests/tools/install.sh bench    that, and Apache Kafka's server
#
# Each part is checked by version and skipped when present. What this script cannot install it names,
# with the way to get it, and fails: a test is never skipped in silence.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/tools/versions.env
tools=$PWD/.tools
mkdir -p "$tools/bin" "$tools/stamps"

problems=()
say() { printf 'tools: %s\n' "$*"; }
missing() { problems+=("$1"); }

# Runs `install` unless the stamp of `part` says that `version` is there.
ensure() { # part version install-function
  local stamp=$tools/stamps/$1 log=$tools/$1.log
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$2" ]; then return; fi
  rm -f "$stamp"
  say "installing $1"
  local begin=$SECONDS
  if "$3" >"$log" 2>&1; then
    printf '%s' "$2" >"$stamp"
    say "installed $1 in $((SECONDS - begin)) s"
  else
    tail -n 15 "$log" >&2
    missing "$1 could not be installed; the whole output is in $log"
  fi
}

need() { # command what-for how-to-get-it
  command -v "$1" >/dev/null 2>&1 || missing "$1 is missing ($2): $3"
}

checksum() { cat "$@" | sha256sum | cut -c1-16; }

# Debian packages, where the script may install them.
debian() { # command package
  command -v "$1" >/dev/null 2>&1 && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "installing Debian package $2"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$2"; } \
      >"$tools/apt-$2.log" 2>&1 || true
  fi
}

for pair in kcat:kcat c++:g++ make:make; do debian "${pair%%:*}" "${pair##*:}"; done

need kcat "a Kafka client" "install the package kcat $KCAT_VERSION of your system"
need c++ "builds librdkafka" "install a C++ compiler (package g++ or clang)"
need make "builds librdkafka" "install the package make of your system"
need go "builds versitygw and the Go client" "install Go 1.26 or newer"
need python3 "the Python clients" "install Python 3.9 or newer with its venv module"
need javac "the Java client" "install a JDK, 17 or newer"
need mvn "fetches the Java client" "install Maven 3.8 or newer"
if [ ${#problems[@]} -eq 0 ] && ! kcat -V 2>&1 | grep -qF "Version $KCAT_VERSION"; then
  missing "kcat is not version $KCAT_VERSION (the tests read its output format)"
fi

install_versitygw() {
  GOBIN=$tools/bin go install "github.com/versity/versitygw/cmd/versitygw@$VERSITYGW_VERSION"
}
# promtool alone: Debian's package is taken apart, because installing it would start a server.
install_promtool() {
  rm -rf "$tools/promtool"
  mkdir -p "$tools/promtool"
  local found
  if found=$(command -v promtool); then
    ln -s "$found" "$tools/bin/promtool.new"
  else
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
      { echo "install promtool $PROMTOOL_VERSION (part of Prometheus) in your PATH"; return 1; }
    (cd "$tools/promtool" && { apt-get download prometheus || { apt-get update && apt-get download prometheus; }; })
    dpkg-deb -x "$tools"/promtool/prometheus_*.deb "$tools/promtool"
    ln -s "$tools/promtool/usr/bin/promtool" "$tools/bin/promtool.new"
  fi
  mv -f "$tools/bin/promtool.new" "$tools/bin/promtool"
  "$tools/bin/promtool" --version 2>&1 | grep -F "version $PROMTOOL_VERSION" ||
    { echo "promtool is not version $PROMTOOL_VERSION (the tests read what it says)"; return 1; }
}
install_python() {
  rm -rf "$tools/python"
  python3 -m venv "$tools/python"
  "$tools/python/bin/pip" install --quiet --disable-pip-version-check -r tests/clients/python/requirements.txt
}
install_java() {
  rm -rf "$tools/java"
  mvn -q -B -f tests/clients/java/pom.xml dependency:copy-dependencies -DoutputDirectory="$tools/java/jars"
  javac -d "$tools/java/classes" -cp "$tools/java/jars/*" tests/clients/java/*.java
}
install_go() {
  go build -C tests/clients/go -o "$tools/bin/client-franz-go" .
}
install_kafka() {
  rm -rf "$tools/kafka"
  mvn -q -B -f tests/tools/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory="$tools/kafka"
}

if [ ${#problems[@]} -eq 0 ]; then
  ensure versitygw "$VERSITYGW_VERSION" install_versitygw
  ensure promtool "$PROMTOOL_VERSION" install_promtool
  ensure python "$(checksum tests/clients/python/requirements.txt)" install_python
  ensure java "$(checksum tests/clients/java/pom.xml tests/clients/java/*.java)" install_java
  ensure go "$(checksum tests/clients/go/*)" install_go
  if [ "${1:-}" = bench ]; then
    ensure kafka "$(checksum tests/tools/kafka/pom.xml)" install_kafka
  fi
fi

if [ ${#problems[@]} -gt 0 ]; then
  printf '\nThe tests cannot run:\n' >&2
  printf '  - %s\n' "${problems[@]}" >&2
  exit 1
fi
