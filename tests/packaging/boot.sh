#!/bin/sh
# Boots a systemd of its own: PID 1 of a new PID namespace, on an overlay of this machine's root, which stays as it is. The
# network is the machine's. Ends, with everything in it, when the process that started it is killed.
#
#     unshare --mount --pid --fork --uts --ipc --kill-child tests/packaging/boot.sh FOLDER
#
# FOLDER/root is what it sees as /; FOLDER/files is laid over it first. Needs root, overlayfs and cgroup v2.
set -eu
folder=$1
mount --make-rprivate /
mount -t tmpfs tmpfs "$folder/layer"
mkdir "$folder/layer/upper" "$folder/layer/work"
root=$folder/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/layer/upper,workdir=$folder/layer/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
# Of what a boot does, only what does not reach beyond the namespace: no kernel settings, modules, swap or devices.
find "$root"/usr/lib/systemd/system/*.wants "$root"/etc/systemd/system/*.wants -type l \
    ! -name 'systemd-journald*' ! -name 'systemd-sysusers.service' ! -name 'systemd-tmpfiles-setup.service' -delete
cp -R "$folder/files/." "$root/"
# Not chroot: within one the kernel makes no user namespaces, which the units ask for.
cd "$root"
pivot_root . mnt
umount -l /mnt
# As systemd makes it itself outside of containers: credentials are mounted by a helper, and must be seen by the service.
mount --make-rshared /
export container=pressline-test
exec /lib/systemd/systemd --system --unit=basic.target
