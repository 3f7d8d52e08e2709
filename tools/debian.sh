# shellcheck shell=bash
# Packages from Debian for `tools/engine`, which sources this and brings `fail`: Docker's from a release that has them,
# the others from the one that this machine runs.

# Debian 12's own docker.io is 20.10, without buildx and compose; Debian 13's packages run on Debian 12.
readonly docker_release=trixie
readonly docker_packages=(docker.io docker-cli docker-buildx docker-compose)

debian_codename() { # the release this machine runs, or nothing
  # shellcheck source=/dev/null
  (. /etc/os-release 2>/dev/null && [[ ${ID:-} == debian ]] && printf '%s' "${VERSION_CODENAME:-}") || true
}

can_install() {
  [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null && [[ $(debian_codename) =~ ^(bookworm|trixie)$ ]]
}

# Every source of this machine's apt: "release|uri|key file", whichever way it is written down.
apt_sources() {
  local release component uri entry file key
  apt-get indextargets --no-release-info --format '$(RELEASE)|$(COMPONENT)|$(REPO_URI)|$(SOURCESENTRY)' \
    'Identifier: Packages' 2>/dev/null | sort -u |
    while IFS='|' read -r release component uri entry; do
      [[ $component == main ]] || continue
      file=${entry%:*}
      if [[ $file == *.sources ]]; then
        key=$(sed -nE 's/^Signed-By: *(\/\S+).*/\1/Ip' "$file" | head -n 1)
      else
        key=$(sed -nE "${entry##*:}s/.*signed-by=(\/[^] ,]+).*/\1/Ip" "$file")
      fi
      printf '%s|%s|%s\n' "$release" "$uri" "$key"
    done
}

# One line of a sources list: the given release, from the mirror that this machine reads another one from. Debian's own
# mirror comes first, in case a third party publishes under the same release name.
source_line() { # apt_sources' answer, release that the machine reads, release to take
  local uri key
  IFS='|' read -r _ uri key < <(
    awk -F'|' -v release="$2" '$1 == release { print ($3 ~ /debian-archive/ ? 0 : $3 == "" ? 1 : 2) "|" $0 }' <<<"$1" |
      sort -s -t'|' -k1,1 | cut -d'|' -f2- | head -n 1
  ) || return 0
  printf 'deb %s%s %s main\n' "${key:+[signed-by=$key] }" "$uri" "$3"
}

# Sources, pins, lists and downloads in a folder that is removed afterwards: the machine's apt configuration stays as
# it is, a broken source of somebody else does not matter, and nothing but the named packages can come from $docker_release.
apt_folder=
remove_apt_folder() { [[ -z $apt_folder ]] || rm -rf "$apt_folder"; }
make_apt_folder() {
  local here sources release
  here=$(debian_codename)
  sources=$(apt_sources)
  apt_folder=$(mktemp -d)
  trap remove_apt_folder EXIT
  mkdir -p "$apt_folder"/{lists,cache/archives}/partial "$apt_folder/none"
  for release in "$here" "$docker_release"; do
    source_line "$sources" "$here" "$release"
    source_line "$sources" "$here-updates" "$release-updates"
    source_line "$sources" "$here-security" "$release-security"
  done | sort -u >"$apt_folder/sources.list"
  grep -q . "$apt_folder/sources.list" ||
    fail "apt on this machine has no source for Debian's $here" "add Debian's mirror to \`/etc/apt/sources.list\`"
  if [[ $here != "$docker_release" ]]; then
    printf '%s\n' "Package: *" "Pin: release n=$docker_release*" "Pin-Priority: -10" "" \
      "Package: ${docker_packages[*]}" "Pin: release n=$docker_release*" "Pin-Priority: 990"
  fi >"$apt_folder/preferences"
}

apt() {
  DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get -q \
    -o Dir::State::lists="$apt_folder/lists" -o Dir::Cache="$apt_folder/cache" \
    -o Dir::Etc::sourcelist="$apt_folder/sources.list" -o Dir::Etc::sourceparts="$apt_folder/none" \
    -o Dir::Etc::preferences="$apt_folder/preferences" -o Dir::Etc::preferencesparts="$apt_folder/none" \
    -o DPkg::Lock::Timeout=120 -o APT::Sandbox::User=root -o Dir::Cache::pkgcache=pkgcache.bin -o Acquire::GzipIndexes=false \
    -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}

apt_quietly() { # apt's talk is shown only when it fails
  local out
  out=$(apt "$@" 2>&1) && return 0
  grep -E '^(E|W|Err):|dpkg: error' <<<"$out" | tail -n 10 >&2 || tail -n 10 <<<"$out" >&2
  return 1
}

install_packages() { # packages
  make_apt_folder
  apt_quietly update --error-on=any ||
    fail "Debian's package lists could not be read" "check the network and \`/etc/apt/sources.list.d\`, then run it again"
  apt_quietly install -y --no-install-recommends --no-remove "$@" ||
    fail "installing $* failed" "read apt's words above, then run it again"
}
