# shellcheck shell=bash
# What the scripts beside this file share. Source it; it changes to the repository's root.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Whoever asks how a script is used is told what is written at its head.
for word in "$@"; do
    case $word in
    -h | --help)
        sed -n '2,$ { /^# shellcheck/q; /^#/!q; s/^# \{0,1\}//; p }' "scripts/$(basename "$0")"
        exit 0
        ;;
    esac
done

# The Debian packages whose programs the tests use, as "program package".
TEST_PROGRAMS=(
    "nginx nginx-light"
    "fusermount3 fuse3"
    "rsync rsync"
    "unzip unzip"
    "zip zip"
    "bsdtar libarchive-tools"
    "7zz 7zip"
    "gzip gzip"
    "bzip2 bzip2"
    "xz xz-utils"
    "zstd zstd"
    "python3 python3"
    "git git"
    "curl curl"
    "aria2c aria2"
    "time time"
    "getfattr attr"
    "runc runc"
    "mkfs.ext4 e2fsprogs"
    "mount mount"
    "losetup mount"
    "ps procps"
    "ip iproute2"
)

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

# Says whether a program is there, also one in a directory for the administrator.
have() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

# Says whether a missing prerequisite is a failure rather than a skipped test.
strict() { [ -n "${CI:-}" ] || [ -n "${CACHED_DOWNLOADS_STRICT:-}" ]; }

# Ends the script unless cargo and a C compiler are there, and says how they come.
need_toolchain() {
    if ! have cargo && [ -r "$HOME/.cargo/env" ]; then
        # shellcheck disable=SC1091
        . "$HOME/.cargo/env"
    fi
    have cargo || die "cargo is missing. Debian's own Rust is too old; install rustup (https://rustup.rs), then run this again."
    have cc || die "a C compiler is missing; install one: apt-get install gcc libc6-dev"
}

# Prints the Debian packages whose programs are missing, one a line.
missing_packages() {
    local pair
    for pair in "${TEST_PROGRAMS[@]}"; do
        have "${pair% *}" || say "${pair#* }"
    done | sort -u
}

# Installs Debian packages without letting any of them start a service of its own.
install_packages() {
    local guard=/usr/sbin/policy-rc.d made="" result=0
    export DEBIAN_FRONTEND=noninteractive
    if [ ! -e "$guard" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$guard"
        chmod 755 "$guard"
        made=1
    fi
    apt-get install -y --no-install-recommends "$@" >/dev/null ||
        { apt-get update >/dev/null && apt-get install -y --no-install-recommends "$@" >/dev/null; } ||
        result=1
    if [ -n "$made" ]; then
        rm -f "$guard"
    fi
    return "$result"
}

# Installs what the tests lack, where that can be done, and says so.
prepare_programs() {
    local packages
    mapfile -t packages < <(missing_packages)
    if [ "${#packages[@]}" -eq 0 ]; then
        return 0
    fi
    if ! have apt-get; then
        warn "these Debian packages' programs are missing, and there is no apt-get: ${packages[*]}"
    elif [ "$(id -u)" -ne 0 ]; then
        warn "some programs are missing; as root: apt-get install ${packages[*]}"
    else
        say "installing Debian packages (their services are not started): ${packages[*]}"
        install_packages "${packages[@]}" || warn "apt-get could not install all of: ${packages[*]}"
    fi
    mapfile -t packages < <(missing_packages)
    if [ "${#packages[@]}" -eq 0 ]; then
        return 0
    fi
    if strict; then
        die "still missing: ${packages[*]}"
    fi
    warn "the tests that need ${packages[*]} will skip themselves and say so"
}

# Says what this machine cannot do and what that means for the tests.
report_machine() {
    if [ ! -e /dev/fuse ]; then
        if strict; then
            die "/dev/fuse is missing, so nothing can be mounted. Load the module (modprobe fuse) or, in a container, pass the device (--device /dev/fuse --cap-add SYS_ADMIN)."
        fi
        warn "/dev/fuse is missing: every test that mounts skips itself. modprobe fuse, or in a container --device /dev/fuse --cap-add SYS_ADMIN."
    fi
    if [ "$(id -u)" -ne 0 ]; then
        warn "not root: passthrough, bind mounts, loop devices, other users and containers cannot be had; their tests skip themselves."
        if ! have fusermount3; then
            warn "fusermount3 is missing, with which ordinary users mount: every test that mounts skips itself. As root: apt-get install fuse3"
        fi
    fi
    if [ ! -e /etc/mtab ]; then
        warn "/etc/mtab is missing, without which fusermount3 unmounts nothing: tests of mounts by ordinary users skip themselves. As root: ln -s ../proc/self/mounts /etc/mtab"
    fi
    local major minor rest
    IFS=. read -r major minor rest < <(uname -r)
    : "$rest"
    if [ "$major" -lt 6 ] || { [ "$major" -eq 6 ] && [ "${minor%%[!0-9]*}" -lt 9 ]; }; then
        warn "kernel $(uname -r) is older than 6.9: no passthrough, complete files are served through the kernel's page cache instead."
    fi
}
