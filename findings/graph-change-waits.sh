#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# QEMU's monitor: adding a disk waits for the slowest request of all others.
#
# Guess: blockdev-add opens one node, so how long it takes depends on that
# node's storage alone.
#
# Seen: with QEMU 10.0.13 (Debian 13) blockdev-add of a raw node on null-co,
# which has no storage at all, takes as long as a request of an unrelated disk
# that is in flight when it is executed: 3 s here, where the same command takes
# some milliseconds when nothing is in flight. The main loop waits, so every
# other command waits, too. With QEMU 7.2 (Debian 12) it takes milliseconds in
# both cases.
#
# Why: in 10.0 a change of the graph of nodes waits until no coroutine holds the
# graph lock for reading (block/graph-lock.c), and each request holds it from
# beginning to end.
#
# Needs apt with lists of a Debian archive, dpkg, python3 and 400 MB in TMPDIR;
# downloads 80 MB. Nothing is installed in the system.

set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# shellcheck disable=SC2016
mirror=$(apt-get indextargets --format '$(SITE) $(LABEL)' |
    awk '$2 == "Debian" { print $1; exit }')

# $1: suite, $2: version of qemu-system-x86; unpacks it into $work/SUITE
unpack()
{
    apt=$work/$1.apt
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$work/$1"
    echo "deb $mirror $1 main" > "$apt/sources.list"
    : > "$apt/status"
    set -- "$1" "$2" -q -y \
        -o Dir::Etc::sourcelist="$apt/sources.list" \
        -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$apt/lists" \
        -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" \
        -o APT::Sandbox::User= -o Acquire::Languages=none
    suite=$1 version=$2
    shift 2
    apt-get "$@" update > "$apt/log" 2>&1
    apt-get "$@" install --download-only --no-install-recommends \
        "qemu-system-x86=$version" >> "$apt/log" 2>&1 ||
        { tail -n 5 "$apt/log"; exit 1; }
    for deb in "$apt"/cache/archives/*.deb; do
        dpkg-deb -x "$deb" "$work/$suite"
    done
}

cat > "$work/ask.py" << 'EOF'
import json
import os
import socket
import subprocess
import sys
import time

root, path = sys.argv[1:]
lib = f'{root}/lib/x86_64-linux-gnu:{root}/usr/lib/x86_64-linux-gnu'
loader = f'{root}/lib64/ld-linux-x86-64.so.2'
if not os.path.exists(loader):
    loader = f'{root}/usr/lib64/ld-linux-x86-64.so.2'
qemu = subprocess.Popen(
    [loader, '--library-path', lib,
     f'{root}/usr/bin/qemu-system-x86_64', '-machine', 'none', '-nodefaults',
     '-display', 'none', '-qmp', f'unix:{path},server=on,wait=off', '-drive',
     'if=none,id=slow,driver=null-co,size=1M,latency-ns=3000000000'],
    env={**os.environ,
         'QEMU_MODULE_DIR': f'{root}/usr/lib/x86_64-linux-gnu/qemu'},
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    qmp = socket.socket(socket.AF_UNIX)
    for _ in range(200):
        try:
            qmp.connect(path)
            break
        except OSError:
            time.sleep(0.05)
    qmp.settimeout(30)
    lines = qmp.makefile()
    lines.readline()

    def ask(command, **arguments):
        start = time.monotonic()
        qmp.sendall(json.dumps({'execute': command,
                                'arguments': arguments}).encode())
        while True:
            answer = json.loads(lines.readline())
            if 'event' not in answer:
                assert 'return' in answer, answer
                return answer['return'], time.monotonic() - start

    def add(name):
        return ask('blockdev-add', driver='raw', **{'node-name': name},
                   file={'driver': 'null-co', 'size': 1 << 20})[1]

    ask('qmp_capabilities')
    version = ask('query-version')[0]['qemu']
    before = add('one')
    ask('human-monitor-command',
        **{'command-line': 'qemu-io slow "aio_read 0 512"'})
    during = add('two')
finally:
    qemu.terminate()
    qemu.wait(10)
print(f'QEMU {version["major"]}.{version["minor"]}.{version["micro"]}: '
      f'blockdev-add took {before:.3f} s, and {during:.3f} s while another '
      'disk had a request of 3 s in flight')
waits = during > 2
sys.exit(0 if before < 1 and waits == (version['major'] >= 10) else 1)
EOF

unpack bookworm '1:7.2+dfsg-7+deb12u18+b3'
unpack trixie '1:10.0.13+ds-0+deb13u1'
for suite in bookworm trixie; do
    timeout 60 python3 "$work/ask.py" "$work/$suite" "$work/qmp" || {
        echo "this is not what was seen before"
        exit 1
    }
done
