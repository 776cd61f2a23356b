#!/bin/sh
# Make the images the scenarios run on: Debian with systemd, cron and MariaDB, as localhost/mol-conntracker:RELEASE.
#   molecule/images.sh [bullseye|bookworm|trixie ...]     (all three if none is named)
# From docker.io's debian images where that registry answers, else, or with MOL_NO_REGISTRY=1, from Debian's
# packages by mmdebstrap (as root).  An image that is there already is kept; remove it to have it made anew.
set -eu
engine=${MOL_ENGINE:-podman}
packages='systemd systemd-sysv cron procps python3 python3-apt ca-certificates tzdata mariadb-server'
[ $# -gt 0 ] || set -- bullseye bookworm trixie

from_registry() {
    [ -z "${MOL_NO_REGISTRY:-}" ] && "$engine" pull -q "docker.io/library/debian:$1-slim" >/dev/null 2>&1 || return 1
    "$engine" build -t "$2" - <<EOF
FROM docker.io/library/debian:$1-slim
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages \
 && apt-get clean && rm -rf /var/lib/apt/lists/*
CMD ["/sbin/init"]
EOF
}

from_packages() {
    tar=$(mktemp --suffix=.tar)
    trap 'rm -f "$tar"' EXIT
    # A frozen mirror's Release files expire: these images are for tests only, so take them all the same.
    mmdebstrap --quiet --variant=minbase --include="$(echo "$packages" | tr ' ' ,)" \
        --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        --customize-hook='rm -f "$1"/etc/hostname "$1"/etc/resolv.conf' "$1" "$tar" &&
        "$engine" import -c 'CMD ["/sbin/init"]' "$tar" "$2" || return 1
    rm -f "$tar"
}

for release in "$@"; do
    image=localhost/mol-conntracker:$release
    if "$engine" image inspect "$image" >/dev/null 2>&1; then
        echo "$image: there already"
    elif from_registry "$release" "$image" || from_packages "$release" "$image"; then
        echo "$image: made"
    else
        echo "$image: neither the registry nor mmdebstrap gave it" >&2
        exit 1
    fi
done
