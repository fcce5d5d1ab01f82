#!/usr/bin/env bash
# Installs from Debian or Ubuntu what the tests need and this machine lacks; does nothing where all of it is there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

missing=()
need() { # PACKAGE CHECK...: the package is needed when the check fails
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

need build-essential cc --version
need make make --version
# OpenSSL's own build, which librdkafka brings along, uses more of Perl than a minimal system has.
need perl perl -MFindBin -MIPC::Cmd -MFile::Compare -MTime::Piece -e 1
need openssl openssl version
need python3 python3 --version
need python3-venv python3 -c 'import ensurepip, venv'
# promtool is in the package too. The tests start a server of their own on a free port.
need prometheus sh -c 'command -v prometheus && command -v promtool'
# A proxy before a database, with its own limits.
need nginx-light sh -c 'command -v nginx || test -x /usr/sbin/nginx'
# A browser for the web app's tests. Ubuntu's package of that name is a snap, which needs its daemon: there it is left out.
if grep -q '^ID=debian' /etc/os-release 2>/dev/null; then
    need chromium chromium --version
    need chromium-driver chromedriver --version
elif ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
    echo "No chromium and chromedriver: the web app is not tested in a browser on this system." >&2
fi
postgres_server() { command -v initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb'; }
# Services that run already need nothing installed here.
if [ -z "${PRESSLINE_TEST_BOOTSTRAP:-}" ] || [ -z "${PRESSLINE_TEST_REGISTRY:-}" ]; then
    need maven mvn --version
    need java "$here/find-java.sh"
    # The package may make and start a cluster of its own on the usual port; the tests' one takes a free port.
    need postgresql postgres_server
    need pgbouncer sh -c 'PATH="$PATH:/usr/sbin" command -v pgbouncer'
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
    echo "These are missing and there is no apt-get to install them: ${missing[*]}" >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "Run as root, or install first: ${missing[*]}" >&2
        exit 1
    }
    as_root=(sudo)
fi
apt_get() { ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" </dev/null; }

echo "Installing: ${missing[*]}"
apt_get update
packages=()
for package in "${missing[@]}"; do
    if [ "$package" = java ]; then
        # Kafka 4 needs Java 17 or newer; newer releases of Debian have dropped 17 for a later default.
        package=default-jdk-headless
        if apt-cache show openjdk-17-jdk-headless >/dev/null 2>&1; then package=openjdk-17-jdk-headless; fi
    fi
    packages+=("$package")
done
apt_get install --no-install-recommends "${packages[@]}"
# These packages start a server of their own: nobody asked for that one.
for service in prometheus pgbouncer nginx; do
    if [[ " ${missing[*]} " == *" $service"* ]] && command -v systemctl >/dev/null; then
        ${as_root[@]+"${as_root[@]}"} systemctl disable --now "$service" >/dev/null 2>&1 || true
    fi
done
if [[ " ${missing[*]} " == *" java "* ]]; then "$here/find-java.sh" >/dev/null; fi
