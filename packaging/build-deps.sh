#!/bin/sh
# Installs what building and testing barfs needs besides Rust: a C and C++ compiler and libclang for RocksDB, fuse3
# for mounts by ordinary users, and what the tests use: acl, attr, git, restic, rsync, sqlite3 on a mount, iproute2 and
# faketime for hosts of their own. Does nothing when all of it is there.
set -eu

missing=
have_libclang() {
    ls /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* /usr/lib64/libclang*.so* 2>/dev/null | grep -q 'libclang[-.0-9]*\.so'
}
command -v c++ >/dev/null 2>&1 || missing="$missing g++"
command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
have_libclang || missing="$missing libclang-dev"
command -v fusermount3 >/dev/null 2>&1 || missing="$missing fuse3"
command -v setfacl >/dev/null 2>&1 || missing="$missing acl"
command -v setfattr >/dev/null 2>&1 || missing="$missing attr"
for program in git restic rsync sqlite3; do
    command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
command -v ip >/dev/null 2>&1 || missing="$missing iproute2"
ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || missing="$missing faketime"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "barfs needs these packages (names as in Debian):$missing" >&2
    echo "Install them with this system's package manager, then run make again." >&2
    exit 1
fi
sudo=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "As root, run: apt-get install$missing" >&2; exit 1; }
    sudo=sudo
fi
echo "Installing:$missing"
$sudo apt-get update -qq
# shellcheck disable=SC2086 # the list is meant to be split
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
