# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
#
# What configure and the scripts have in common; sourced with $top set to the
# top folder of the repository.  $build may be set to another build folder.

build=${CSV_BUILD:-$top/build}
src=${CSV_SRC:-$build/src}
: "${CSV_T0:=$(date +%s)}"
export CSV_T0

# UPSTREAM: branch, version, suite, sha256
. "$top/UPSTREAM"

# one line a step, with the time since the command was started
say()
{
    printf '[%3ds] %s\n' $(($(date +%s) - CSV_T0)) "$*"
}

die()
{
    printf '\n%s: %s\n' "${0##*/}" "$1" >&2
    shift
    for line in "$@"; do
        printf '    %s\n' "$line" >&2
    done
    exit 1
}

have()
{
    command -v "$1" > /dev/null 2>&1
}

# git as it comes, so that a user's own settings change nothing
git_plain()
{
    GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null \
    GIT_CONFIG_NOSYSTEM=1 GIT_PAGER=cat \
    GIT_COMMITTER_NAME=qemu-csv GIT_COMMITTER_EMAIL=qemu-csv \
        git -c core.hooksPath=/dev/null -c core.excludesFile=/dev/null \
            -c commit.gpgSign=false -c core.autocrlf=false \
            -c advice.detachedHead=false -c gc.auto=0 "$@"
}

# the paths in patches/series, in order
series_files()
{
    sed -e 's/[[:space:]]*$//' -e '/^#/d' -e '/^$/d' "$top/patches/series"
}

# Folders whose files land at the same place in QEMU's tree.
overlay_roots="backends block docs fsdev hw include io migration nbd net \
qapi storage-daemon system tests/bench/csv tests/unit tests/qtest \
tests/qemu-iotests ui util"

# Run from its build folder, QEMU looks for firmware below qemu-bundle only.
# $1: the build folder
link_firmware()
{
    for dir in /usr/share/qemu /usr/share/seabios /usr/lib/ipxe/qemu; do
        mkdir -p "$1/qemu-bundle${dir%/*}"
        ln -sfn $dir "$1/qemu-bundle$dir"
    done
}

# every file of ours that lands in QEMU's tree
overlay_files()
{
    (
        cd "$top" || exit 1
        roots=
        for dir in $overlay_roots; do
            test ! -d "$dir" || roots="$roots $dir"
        done
        test -n "$roots" || exit 0
        # shellcheck disable=SC2086
        if test -e .git; then
            git ls-files -co --exclude-standard -- $roots | while read -r f; do
                test ! -e "$f" || printf '%s\n' "$f"
            done
        else
            find $roots -type f ! -name '*.pyc' ! -name '*~'
        fi | sort -u
    )
}

# What the series in build/src is made of.  $1: identity of the source
source_stamp()
{
    {
        echo "source $1"
        cd "$top/patches" && cat series && series_files | tr '\n' '\0' |
            xargs -0 -r sha256sum
    } | sha256sum | cut -d' ' -f1
}

# Is the work in build/src something that would be lost?
src_is_dirty()
{
    test -n "$(git_plain -C "$src" status --porcelain --untracked-files=no)"
}
