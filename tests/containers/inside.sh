# Become process 1 of an image's files, as a container engine starts it: everything but /tmp, /dev and /data is read
# only, /dev/shm has 64 MB, there is no network, and nothing of this machine's environment goes along.
#   unshare --mount --pid --fork --net sh inside.sh ROOT WORK USER NAME=VALUE... COMMAND...
set -eu
root=$1 work=$2 user=$3
shift 3
mount --bind "$root" "$root"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for each in null zero full random urandom; do
    : > "$root/dev/$each"
    mount --bind "/dev/$each" "$root/dev/$each"
done
mkdir "$root/dev/shm"
mount -t tmpfs -o size=64m,mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o size=1g,mode=1777 tmpfs "$root/tmp"
mount --bind "$work" "$root/data"
mount -t proc proc "$root/proc"
mount -o remount,bind,ro "$root"
exec chroot --userspec="$user:$user" --groups="$user" "$root" /usr/bin/env -i -C /data "$@"
