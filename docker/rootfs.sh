#!/bin/sh
# Gathers what the final image consists of: docker/rootfs.sh BINARY FOLDER. To be run from the top of the repository, on the
# system that the binary was built on.
set -eu
binary=$1
root=$2

install -D -m 755 "$binary" "$root/usr/bin/pressline"
# Without the debug sections: what remains still names functions in a backtrace.
strip --strip-debug "$root/usr/bin/pressline"

# The libraries and the loader. glibc reads /etc/hosts and asks DNS by itself since 2.34, without plugins.
ldd "$binary" | grep -o '/[^ ]*' | while read -r library; do
    install -D -m 755 "$(readlink -f "$library")" "$root$library"
done

install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
printf 'pressline:x:65532:65532::/:/none\n' >"$root/etc/passwd"
printf 'pressline:x:65532:\n' >"$root/etc/group"

install -D -m 644 pressline.toml "$root/etc/pressline/pressline.toml"
install -D -m 644 packaging/etc/pipelines/button_presses.toml "$root/etc/pressline/pipelines/button_presses.toml"
install -D -m 644 schemas/button_presses.avsc "$root/usr/share/pressline/button_presses.avsc"
install -D -m 644 data/demo.mmdb "$root/usr/share/pressline/demo.mmdb"
install -D -m 644 data/README.md "$root/usr/share/doc/pressline/place-data.md"
