#!/bin/sh
# A command in the chroot of toolchain.sh, with a folder as /mnt. Mounts end with the command.
# Usage: tests/swift/run.sh CHROOT FOLDER COMMAND...
set -eu
exec unshare --mount sh -euc '
    root=$1 folder=$2
    shift 2
    mount -t proc proc "$root/proc"
    mount --bind "$folder" "$root/mnt"
    exec chroot "$root" env --chdir=/mnt HOME=/tmp "$@"
' run "$@"
