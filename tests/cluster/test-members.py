#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""Several members on one volume: who may open a disk, and what is said."""

import json
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lib import case, say, storage              # noqa: E402
from lib.lab import Host, Lab                   # noqa: E402
from lib.qmp import Qmp, QmpError               # noqa: E402
from lib.scene import Witness, must             # noqa: E402


class Members:
    """Two hosts, each with a process that can open disks."""

    def __init__(self, lab: Lab, tools: Path):
        self.lab, self.tools = lab, tools
        self.store = storage.Storage(lab, tools, 'csv', '1G')
        for disk in ('data', 'more'):
            self.store.add(disk, '64M')
        self.a, self.b = lab.host('host-A'), lab.host('host-B')
        self.witness = Witness(lab, lab.host('witness'), tools, self.store)
        self.member_a, self.qmp_a = self.member(self.a)
        self.member_b, self.qmp_b = self.member(self.b)
        self.member_a_count = 0

    def member(self, host: Host):
        name = f'member-{host.name}-{time.monotonic_ns()}'
        path = self.lab.sockets / f'{name[-20:]}.qmp'
        process = host.popen(
            name, self.tools / 'storage-daemon' / 'qemu-storage-daemon',
            '--chardev', f'socket,id=qmp,path={path},server=on,wait=off',
            '--monitor', 'chardev=qmp')
        return process, Qmp(path, process.alive)

    def open(self, qmp: Qmp, disk: str, **options) -> None:
        node = self.store.node(disk, **options)
        qmp.cmd('blockdev-add', **{k.replace('-', '_'): v
                                   for k, v in node.items()})

    def refused(self, qmp: Qmp, disk: str, **options) -> str:
        try:
            self.open(qmp, disk, **options)
        except QmpError as why:
            say.note(str(why))
            return str(why)
        raise AssertionError(f'{disk} could be opened')

    def io(self, host: Host, disk: str, *commands: str) -> str:
        words = [w for c in commands for w in ('-c', c)]
        return host.run(self.tools / 'qemu-io', *words,
                        self.store.json_name(disk))


def one_owner(m: Members) -> None:
    """A disk that is owned is refused to others, with the owner's name."""
    m.open(m.qmp_a, 'data')
    owner = m.witness.disk('data')['owner']
    why = m.refused(m.qmp_b, 'data')
    for what in ('data', 'vol1', 'host-A', str(owner['pid'])):
        must(re.search(rf'\b{re.escape(what)}\b', why),
             f'the message does not name {what}')
    must(re.search(r'\b20\d\d-', why) or 'since' in why,
         'the message does not say since when')


def each_a_disk(m: Members) -> None:
    """Another disk of the same volume can be written at the same time."""
    m.open(m.qmp_b, 'more')
    disks = {d['name']: d for d in m.witness.volume()['disks']}
    must(disks['data']['owner']['host'] == 'host-A'
         and disks['more']['owner']['host'] == 'host-B', f'{disks}')
    alive = [x for x in m.witness.volume()['members']
             if x['liveness'] == 'alive']
    must(len(alive) == 2, f'two members, not {alive}')


def read_only(m: Members) -> None:
    """An owned disk can be opened read-only."""
    out = m.b.run(m.tools / 'qemu-io', '-r', '-c', 'read 0 64k',
                  m.store.json_name('data'))
    must('read 65536/65536' in out, out)


def let_go(m: Members) -> None:
    """A disk that its owner closes can be opened by the next."""
    m.qmp_b.cmd('blockdev-del', node_name='more')
    must(m.witness.disk('more')['state'] == 'free', 'more is free')
    m.io(m.a, 'more', 'write -P 7 0 1M', 'flush')
    m.io(m.b, 'more', 'read -P 7 0 1M')


def take_over(m: Members, qmp: Qmp, host: str) -> None:
    """The disk of a dead owner is opened, and soon."""
    before = m.witness.disk('data')
    start = time.monotonic()
    m.open(qmp, 'data')
    took = time.monotonic() - start
    after = m.witness.disk('data')
    must(after['owner']['host'] == host, f'{after}')
    must(after['epoch'] == before['epoch'] + 1, f'{before} {after}')
    event = qmp.wait('CSV_DISK_OWNERSHIP', 5, reason='takeover')
    say.note(f'in {took * 1000:.0f} ms: {json.dumps(event.data)}')
    must(took < 2, f'it took {took:.1f} s')


def dead_owner(m: Members) -> None:
    """A dead owner's disk is taken over at once on its own host."""
    m.member_a.kill()
    m.member_a, m.qmp_a = m.member(m.a)
    take_over(m, m.qmp_a, 'host-A')


def dead_elsewhere(m: Members) -> None:
    """On another host only when somebody vouches that the owner is dead.

    It cannot look into that host, so the lock that is gone proves nothing.
    """
    pid = m.member_a.pid_inside()
    m.member_a.kill()
    must(m.witness.disk('data')['owner']['liveness'] == 'unknown',
         'nobody else knows that the owner is dead')
    why = m.refused(m.qmp_b, 'data')
    must('host-A' in why and 'cannot be seen from here' in why,
         'the message says who has it, and why it is refused')
    m.witness.evict('host-A', pid)
    must(m.witness.disk('data')['owner']['liveness'] == 'dead',
         'now it is known')
    take_over(m, m.qmp_b, 'host-B')


def both_want(m: Members) -> None:
    """When many want one disk at once, one gets it."""
    m.qmp_b.cmd('blockdev-del', node_name='data')
    procs = []
    for number in range(8):
        host = (m.a, m.b)[number % 2]
        procs.append(host.popen(
            f'race{number}', m.tools / 'qemu-io', '-c', 'write -P 1 0 64k',
            '-c', 'sleep 1500', m.store.json_name('data')))
    codes = [p.wait(20) for p in procs]
    must(codes.count(0) == 1, f'exit codes {codes}: '
                              f'{[p.output()[-200:] for p in procs]}')


def power_off(m: Members) -> None:
    """A whole host goes and is fenced; the other takes its disk over."""
    m.open(m.qmp_b, 'data')
    m.b.power_off()
    try:
        m.io(m.a, 'data', 'write -P 2 0 64k')
    except RuntimeError as why:
        say.note(str(why))
    else:
        raise AssertionError('data could be opened')
    m.witness.evict('host-B')
    m.io(m.a, 'data', 'read -P 1 0 64k', 'write -P 2 0 64k')
    disk = m.witness.disk('data')
    must(disk['state'] == 'free', f'{disk}')


if __name__ == '__main__':
    case.end(case.main(__doc__, Members,
                       [one_owner, each_a_disk, read_only, let_go, dead_owner,
                        dead_elsewhere, both_want, power_off], timeout=90))
