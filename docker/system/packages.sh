#!/bin/sh
# Install the user's own Debian packages while an image is built; mounted into the build, never copied into the image.
#
#     packages.sh NAME …
#
# Official images note in their apt sources from which snapshot of the distribution they were made. The packages come
# from the same snapshot, so that the same base always gets the same versions. A base that notes none, or whose snapshot
# does not answer, gets what its own sources have today. Which versions were installed is listed in
# /opt/envbuilder/system-packages.txt.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

fail() {
    echo "envbuilder: $1" >&2
    exit 1
}

# The base's sources, each address replaced by the snapshot that is noted before it; nothing if one has no note.
snapshot_of() {
    awk '
        /^# (deb (\[[^]]*\] )?)?[a-z]+:[^ ]*\/archive\/[^ ]*\/[0-9]+T[0-9]+Z/ {
            noted = ($2 == "deb") ? substr($0, 3) : $2
            next
        }
        /^URIs:/ {
            if (noted == "") exit 1
            print "URIs: " noted
            print "Check-Valid-Until: no"
            noted = ""
            next
        }
        /^deb / {
            if (noted == "") exit 1
            options = ""
            if (match($0, /\[[^]]*\]/)) options = substr($0, RSTART + 1, RLENGTH - 2) " "
            sub(/^deb (\[[^]]*\] )?/, "deb [" options "check-valid-until=no] ", noted)
            print noted
            noted = ""
            next
        }
        !/^#/ { print }
    ' "$1"
}

install_from() {
    # shellcheck disable=SC2086 # names, which the lock has checked
    update "$@" && apt-get "$@" install -qq --yes --no-install-recommends $packages >/dev/null
}

# apt-get update ends well without an answer, and then every package is unknown.
update() {
    apt-get "$@" update -qq 2>"$work/update" || return 1
    ! grep -q '^[EW]: .*Failed to fetch' "$work/update"
}

# What apt said first, without a password in the address of a mirror.
reason() {
    grep '^[EW]: ' "$work/update" | head -n 1 | cut -c4-250 | sed 's,//[^/@ ]*@,//,g'
}

# The name that the base's sources do not have, if that is why it failed.
blame() {
    update || fail "the package sources do not answer: $(reason)"
    for name in $packages; do
        apt-get install -qq --simulate --no-install-recommends "$name" >/dev/null 2>&1 && continue
        # shellcheck source=/dev/null
        system=$(. /etc/os-release && echo "$PRETTY_NAME")
        fail "--apt $name: $system cannot install a package of this name"
    done
    fail "the system packages cannot be installed: $packages"
}

packages="$*"
PATH=${PATH#/opt/venv/bin:} # the packages' own programs expect the system's Python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/snapshot"
noted=
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    [ -s "$file" ] || continue
    noted=yes
    snapshot_of "$file" >"$work/snapshot/${file##*/}" || { noted= && break; }
done
dpkg-query --show --showformat '${binary:Package}=${Version}\n' >"$work/before"

# shellcheck source=docker/system/mirror.sh
. /system/mirror.sh
[ -z "${APT_CONFIG:-}" ] || noted= # a site with a mirror reaches no snapshot
if [ -n "$noted" ] &&
    install_from -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/snapshot" \
        -o Acquire::Retries=1 -o Acquire::http::Timeout=20 2>"$work/errors"; then
    echo "installed from the snapshot that the base was made from"
else
    [ -z "$noted" ] || sed 's/^/the snapshot of the base does not answer: /' "$work/errors" "$work/update"
    install_from || blame
    echo "installed from the base's own package sources"
fi

mkdir -p /opt/envbuilder
dpkg-query --show --showformat '${binary:Package}=${Version}\n' | grep -vxFf "$work/before" \
    >/opt/envbuilder/system-packages.txt || echo "nothing to install: the base has them"
rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /var/cache/ldconfig/aux-cache \
    /var/cache/debconf/*-old
