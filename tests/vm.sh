#!/usr/bin/env bash
# Live capture on the oldest and a long-term kernel, in virtual machines. Where those cannot be had
# (no emulator in the package mirrors, no kernels), it says so and passes.
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
[ -e /bin/busybox ] || install busybox-static
if ! command -v qemu-system-x86_64 > /dev/null; then
    echo "SKIPPED: qemu-system-x86_64 is not installed and could not be"
    exit 0
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if cargo xtask vm-test --kernel 5.10 --kernel 6.12 2>&1 | tee "$log"; then
    exit 0
fi
if ! grep -q '^vm-test: booting' "$log"; then
    echo "SKIPPED: no kernel could be had"
    exit 0
fi
exit 1
