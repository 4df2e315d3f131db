#!/bin/sh
# Swift on Linux in a Debian system of its own, for tests/test_sample_swift.py: needs root, 2.7 GB, minutes.
# Usage: tests/swift/toolchain.sh FOLDER
set -eu
folder=$(realpath -m "${1:?"usage: tests/swift/toolchain.sh FOLDER"}")
swiftc="$folder/usr/bin/swiftc"
[ -x "$swiftc" ] && [ -e "$folder/ready" ] && { echo "there is one: $folder"; exit 0; }
[ "$(id -u)" = 0 ] || { echo "a chroot needs root: run with sudo" >&2; exit 1; }
command -v debootstrap >/dev/null || apt-get install --yes --quiet debootstrap

rm -rf "$folder"
mkdir -p "$folder"
# trixie is the first Debian with Swift; apt inside it fetches from where debootstrap did.
debootstrap --variant=minbase trixie "$folder"
cp /etc/resolv.conf "$folder/etc/resolv.conf"
chroot "$folder" apt-get install --yes --quiet --no-install-recommends swiftlang libc6-dev libstdc++-14-dev
chroot "$folder" apt-get clean
touch "$folder/ready"
