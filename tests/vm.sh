#!/usr/bin/env bash
# Live capture on the oldest and a long-term kernel, in virtual machines: every set of hooks, the whole
# workload. Where those cannot be had (no emulator in the package mirrors, no kernels), it says so and
# passes.
set -euo pipefail
cd "$(dirname "$0")/.."

install() { apt-get install -qq --yes --no-install-recommends "$@" > /dev/null 2>&1; }

# Where other parts of the emulator are from backports, it must come from there as well.
install_from_backports() {
    local suite mirror list=/etc/apt/sources.list.d/wirespan-backports.list
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")-backports
    mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -m 1 '/debian/$')
    if ! apt-get indextargets --format '$(RELEASE)' | grep -q "^$suite$"; then
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" > "$list"
        apt-get update -qq
    fi
    install -t "$suite" qemu-system-x86
}

if ! command -v qemu-system-x86_64 > /dev/null; then
    install qemu-system-x86 || install_from_backports || true
fi
[ -e /bin/busybox ] || install busybox-static || true
if ! command -v qemu-system-x86_64 > /dev/null; then
    echo "SKIPPED: qemu-system-x86_64 is not installed and could not be"
    exit 0
fi
if [ ! -e /bin/busybox ]; then
    echo "SKIPPED: busybox-static is not installed and could not be"
    exit 0
fi
# An emulated processor is slow enough that a kretprobe may find no return address left, which is a
# limit of the kernel's (docs/LIVE.md): what differs must differ twice.
kernels=(--kernel 5.10 --kernel 6.12)
if ! cargo xtask vm-test "${kernels[@]}"; then
    echo "once more, because something differed"
    cargo xtask vm-test "${kernels[@]}"
fi
