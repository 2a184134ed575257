# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
#
# Debian's archive through apt and its signatures, without touching the system's
# own lists: sources.list, lists and cache are folders under build/apt.  The
# mirror is the one that apt uses already.  Sourced after lib.sh.

apt_dir=$build/apt

# $1: apt-get or apt-cache, $2: suite, rest: arguments
apt_private()
{
    apt_tool=$1 apt_suite=$2
    shift 2
    sandbox=
    test "$(id -u)" != 0 || sandbox="-o APT::Sandbox::User=root"
    # shellcheck disable=SC2086
    "$apt_tool" -q \
        -o Dir::Etc::sourcelist="$apt_dir/$apt_suite/sources.list" \
        -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::Etc::preferences=/dev/null \
        -o Dir::Etc::preferencesparts=/dev/null \
        -o Dir::State::lists="$apt_dir/$apt_suite/lists" \
        -o Dir::Cache="$apt_dir/$apt_suite/cache" \
        -o Acquire::Languages=none -o Acquire::Retries=2 \
        -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30 \
        $sandbox "$@"
}

apt_mirror()
{
    apt-get indextargets --format '$(SITE) $(LABEL)' 2> /dev/null |
        awk '$2 == "Debian" { print $1; exit }'
}

# $1: suite; says why it failed
apt_update()
{
    have apt-get || { echo "there is no apt-get here"; return 1; }
    mirror=$(apt_mirror)
    test -n "$mirror" || {
        echo "apt has no lists of a Debian archive yet (apt-get update)"
        return 1
    }
    mkdir -p "$apt_dir/$1/lists/partial" "$apt_dir/$1/cache/archives/partial"
    printf 'deb-src %s %s main\ndeb %s %s main\n' \
        "$mirror" "$1" "$mirror" "$1" > "$apt_dir/$1/sources.list"
    apt_private apt-get "$1" -o APT::Update::Error-Mode=any update \
        > "$apt_dir/$1/update.log" 2>&1 || {
        echo "apt cannot reach the suite $1:" \
            "$(sed -n -e 's/^[EW]: *//p' "$apt_dir/$1/update.log" | head -n 1)"
        return 1
    }
}
