#!/bin/sh
# Look at a custom base image before anything is built on it, and prepare it; mounted into the build, never copied.
#
#     base.sh PYTHON GLIBC MACHINE [PACKAGE …]
#
# PYTHON is X.Y, or - where uv brings one; GLIBC is the oldest that the locked wheels run on. What an image lacks or has
# otherwise is either handled here or named in one sentence that starts with "envbuilder:".
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
python=$1 glibc=$2 machine=$3
shift 3

fail() {
    echo "envbuilder: the base image $1" >&2
    exit 1
}

at_least() { # whether version $1 is $2 or newer
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]
}

# --- what nothing here can change ---

system="an unknown system"
if [ -r /etc/os-release ]; then
    # shellcheck source=/dev/null
    system=$(. /etc/os-release && echo "${PRETTY_NAME:-$system}")
fi
[ "$(uname -m)" = "$machine" ] || fail "is for $(uname -m), and the lock is for $machine"
command -v apt-get >/dev/null || fail "has no apt-get ($system): it must be Debian, Ubuntu or made of them"
command -v dpkg-query >/dev/null || fail "has no dpkg ($system): it must be Debian, Ubuntu or made of them"
found=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2) || true
[ -n "$found" ] || fail "has no glibc ($system), and PyTorch's wheels need it"
at_least "$found" "$glibc" || fail "has glibc $found ($system), and the locked wheels need $glibc or newer"
for name in $(env | sed -n 's/^\(UV_[A-Z0-9_]*\)=.*/\1/p'); do
    case $name in
    UV_TOOL_* | UV_PYTHON_* | UV_LINK_MODE | UV_COMPILE_BYTECODE | UV_NO_PROGRESS | UV_VERSION) ;;
    *) fail "sets $name, which changes what uv installs: remove it from its ENV" ;;
    esac
done

# --- its packages ---

if [ $# -gt 0 ]; then
    missing=
    for name; do
        dpkg-query --show --showformat '${Status}' "$name" 2>/dev/null | grep -q ' installed$' || missing="$missing $name"
    done
    if [ -n "$missing" ]; then
        # shellcheck source=docker/system/mirror.sh
        . /system/mirror.sh
        # It ends well without an answer, and then every package is unknown.
        answer=$(apt-get update -qq 2>&1) || answer="Failed to fetch: $answer"
        case $answer in
        *"Failed to fetch"*)
            echo "$answer" | sed 's,//[^/@ ]*@,//,g' >&2
            fail "has package sources that do not answer ($system)"
            ;;
        esac
        # shellcheck disable=SC2086 # names, which the lock has checked
        apt-get install -qq --yes --no-install-recommends $missing >/dev/null ||
            fail "cannot install$missing ($system)"
        rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/log/alternatives.log
    fi
fi

# --- its Python ---

if [ "$python" != - ]; then
    command -v python3 >/dev/null || fail "has no python3 in its PATH, and the lock is for Python $python"
    found=$(python3 -I -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "has a python3 that does not start"
    [ "$found" = "$python" ] || fail "has Python $found, and the lock is for $python: lock again with \`--python $found\`"
    python3 -m pip --version >/dev/null 2>&1 || fail "has a python3 without pip, which the build installs uv with"
fi

# --- what gets in the way of torch's own libraries ---

# The one CUDA of an image is that of torch's wheels: a second copy of a library is loaded by chance, or takes its place.
copies=$(find /opt /usr /home /root /srv -xdev \( -type f -o -type l \) -regextype posix-extended -regex \
    '.*/lib(cudart|cublas|cudnn|nccl|cufft|curand|cusolver|cusparse|nvrtc|cupti|nvJitLink)[^/]*\.so[^/]*')
if [ -n "$copies" ]; then
    echo "CUDA libraries of the base, which torch's own replace: removed $(echo "$copies" | wc -l) files"
    echo "$copies" | while IFS= read -r file; do rm -f "$file"; done
fi
for file in /etc/ld.so.conf.d/*.conf; do
    [ -e "$file" ] || continue
    if grep -q '/cuda' "$file"; then
        echo "$file names the base's CUDA, which would come before torch's own: removed"
        rm "$file"
    fi
done
if [ -s /etc/ld.so.preload ]; then
    echo "/etc/ld.so.preload loads $(cat /etc/ld.so.preload) into every program: removed"
    rm /etc/ld.so.preload
fi
ldconfig

# --- its user ---

other=$(getent passwd 1000 | cut -d: -f1) || true
if [ "$other" = trainer ]; then
    echo "user trainer is there already"
elif [ -n "$other" ]; then
    echo "user $other has UID 1000: renamed to trainer"
    if getent passwd trainer >/dev/null; then
        fail "has a user trainer whose UID is not 1000, and another one with UID 1000: remove one of them"
    fi
    usermod --login trainer --home /home/trainer --shell /bin/bash "$other"
    [ "$(getent group 1000 | cut -d: -f1)" != "$other" ] || groupmod --new-name trainer "$other"
elif getent passwd trainer >/dev/null; then
    echo "user trainer gets UID 1000"
    usermod --uid 1000 --home /home/trainer --shell /bin/bash trainer
else
    group=
    ! getent group 1000 >/dev/null || group="--gid 1000"
    # shellcheck disable=SC2086 # two words, or none
    useradd --create-home --uid 1000 --shell /bin/bash $group trainer
fi
mkdir -p /home/trainer
chown "1000:$(id -g trainer)" /home/trainer
