# shellcheck shell=sh
# Let apt use a mirror of Debian, if the build secret `apt-mirror` has its URL; each step that installs packages sources it.
#
# apt reads a copy of its settings in memory: neither the mirror nor its password stays in the image. Only Debian's own
# archives are replaced, by the folders `debian` and `debian-security` of the mirror; snapshots and other archives are not.
if [ -s /run/secrets/apt-mirror ]; then
    mirror=$(sed 's,debian/*$,,' /run/secrets/apt-mirror)
    cp -r /etc/apt /dev/shm/apt
    find /dev/shm/apt/sources.list* -type f -exec \
        sed -Ei "s,https?:/+[^/ ]*debian[.]org/(debian-security|debian),$mirror\\1," {} +
    echo 'Dir::Etc "/dev/shm/apt";' >/dev/shm/apt.conf
    if [ -s /run/secrets/ca ]; then
        echo 'Acquire::https::CAInfo "/run/secrets/ca";' >>/dev/shm/apt.conf
    fi
    export APT_CONFIG=/dev/shm/apt.conf
fi
