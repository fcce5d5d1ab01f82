#!/bin/sh
# Boots a systemd of its own: PID 1 of a new PID namespace, on an overlay of this machine's root, which stays as it is. The
# network is the machine's; kernel settings, devices and the control groups of others are out of its reach. Ends, with everything
# in it, when the process that started it is killed.
#
#     unshare --mount --pid --fork --uts --ipc --cgroup --kill-child tests/packaging/boot.sh FOLDER
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
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/dev"
mkdir "$root/dev/shm" "$root/dev/pts" "$root/dev/mqueue" "$root/dev/hugepages"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty "$root/dev/"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
# Of what a boot does, only what a service needs: the journal, users and folders.
find "$root"/usr/lib/systemd/system/*.wants "$root"/etc/systemd/system/*.wants -type l \
    ! -name systemd-journald.service ! -name systemd-journald.socket ! -name systemd-journald-dev-log.socket \
    ! -name systemd-sysusers.service ! -name systemd-tmpfiles-setup.service -delete
cp -R "$folder/files/." "$root/"
# Not chroot: within one the kernel makes no user namespaces, which the units ask for.
cd "$root"
pivot_root . mnt
umount -l /mnt
# As systemd makes it itself outside of containers: credentials are mounted by a helper, and must be seen by the service.
mount --make-rshared /
export container=pressline-test
exec /lib/systemd/systemd --system --unit=basic.target
