# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that come and go while the guest runs: disk-attach, disk-detach."""

import json
import time
from dataclasses import dataclass

from . import say
from .machine import COMMAND, Guest
from .proc import until

TIMEOUT = 60                    # of the guest, in seconds


@dataclass
class HotDisk:
    """A disk that was attached, as QEMU and the guest call it."""
    info: dict                  # DiskInfo
    name: str                   # sda, vdc, ...

    @property
    def id(self) -> str:
        return self.info['id']


class Sight:
    """The guest waits for a disk; nobody asks it meanwhile."""

    def __init__(self, guest: Guest, pattern: str):
        self.socket = guest.client.socket()
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(guest.at.ports[COMMAND])
        self.socket.sendall(f"agent wait '{pattern}'\n".encode())
        self.file = self.socket.makefile('r')
        if self.file.readline() != 'waiting\n':
            raise RuntimeError('the guest does not wait for a disk')

    def wait(self) -> str:
        with self.socket, self.file:
            return self.file.readline().strip()


def _serials(guest: Guest) -> dict[str, str]:
    """Serial number by the name of the disk, as the guest's kernel says."""
    out = guest.run(
        'cd /sys/block; for d in *; do'
        ' if [ -e $d/serial ]; then echo $d $(cat $d/serial);'
        ' elif [ -e $d/device/serial ]; then echo $d $(cat $d/device/serial);'
        # in the page of serial numbers, after four bytes
        ' elif [ -e $d/device/vpd_pg80 ]; then'
        ' echo $d $(tail -c +5 $d/device/vpd_pg80); fi; done; true')
    return dict(reversed(line.split()[:2]) for line in out.splitlines()
                if len(line.split()) >= 2)


def appears(guest: Guest, serial: str) -> str:
    """Wait until the guest has the disk; returns what it calls it."""
    found: list[str] = []

    def there() -> bool:
        found[:] = [n for s, n in _serials(guest).items() if s == serial]
        return bool(found)
    until(f'the guest sees the disk {serial}', there, TIMEOUT, 0.05)
    return found[0]


def vanishes(guest: Guest, disk: HotDisk) -> None:
    until(f'the guest does not see {disk.name} any more',
          lambda: disk.info['serial'] not in _serials(guest), TIMEOUT, 0.05)


def _as_udev(guest: Guest, name: str) -> None:
    """Tell the guest's agent who a disk is: there is no udev that would."""
    guest.run(
        f'cd /sys/block/{name}; if [ -e device/wwid ]; then'
        ' id=$(sed "s/^naa[.]/3/" device/wwid); else id=$(cat serial'
        ' device/serial 2>/dev/null | sed "s/ *$//"); fi;'
        ' echo "E:ID_SERIAL=$id" > /run/udev/data/b$(cat dev)')


def agent_runs(guest: Guest) -> None:
    """Wait until the guest's agent has opened its port."""
    until("the guest's agent runs", lambda: guest.run(
        'ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c /dev/vport; true'
    ).strip() != '0', TIMEOUT, 0.1)


def plug(guest: Guest, node: dict, **spec) -> dict:
    """Attach a disk, when its image is made if that is asked for; what QEMU
    says of it."""
    qmp = guest.at.qmp
    if 'create' in spec:
        spec.setdefault('id', node['node-name'])
    info = qmp.cmd('disk-attach', blockdev=node, **spec)

    def now() -> dict:
        return next(d for d in qmp.cmd('query-disks') if d['id'] == info['id'])
    if info['state'] == 'waiting':
        until(f'disk "{info["id"]}" has its image',
              lambda: now()['state'] != 'waiting', 60)
        info = now()
    return info


def attach(guest: Guest, node: dict, **spec) -> HotDisk:
    info = plug(guest, node, **spec)
    disk = HotDisk(info, appears(guest, info['serial']))
    if guest.at.plan.agent:
        _as_udev(guest, disk.name)
    return disk


def detach(guest: Guest, disk: HotDisk, **how) -> dict:
    """Detach DISK; returns the last DiskDetachInfo of it."""
    qmp = guest.at.qmp
    first = len(qmp.events)
    qmp.cmd('disk-detach', id=disk.id, **how)
    last: dict = {}

    def over() -> bool:
        for event in qmp.events[first:]:
            info = event.data.get('info', {})
            if event.name == 'DISK_DETACH_STATUS' and info['id'] == disk.id:
                last.update(info)
        return last.get('state') in ('removed', 'refused', 'timed-out',
                                     'cancelled')
    try:
        until('the detach is over', over, TIMEOUT, 0.005)
    except Exception as why:
        raise RuntimeError(
            f'{why}: {json.dumps(qmp.cmd("query-disk-detach"))}') from why
    return last


def visit(guest: Guest, node: dict, inside: str, **spec) -> dict:
    """A disk comes, INSIDE runs with $DISK in the guest, and it goes; what
    that was like."""
    sight = Sight(guest, '/dev/sd[a-z]')
    begun = time.monotonic()
    info = plug(guest, node, bus='scsi', **spec)
    disk = HotDisk(info, sight.wait().removeprefix('/dev/'))
    seen = time.monotonic()
    wrong = ''
    try:
        guest.run(f'DISK=/dev/{disk.name}; {inside}')
    except RuntimeError as why:
        wrong = str(why)
    info = detach(guest, disk)
    vanishes(guest, disk)
    if info['state'] != 'removed':
        wrong += f'detach: {info}'
    return {'host': guest.at.host.name, 'guest_name': disk.name,
            'bus': disk.info['bus'], 'name': disk.info['guest-name'],
            'created': 'create' in spec,
            'seen_ms': round((seen - begun) * 1000),
            'removed_ms': info['elapsed'], 'flushed': info['flushed'],
            'wrong': wrong}


def show_visits(visits: list[dict]) -> None:
    say.line()
    say.line('  A disk for the running guest, with a file on it:')
    for v in visits:
        begin = 'created and attached' if v['created'] else 'attached again'
        say.line(f'  {v["host"]}  {begin:20}  the guest has {v["guest_name"]} '
                 f'after {v["seen_ms"]:3} ms; detached, it let go after '
                 f'{v["removed_ms"]:3} ms')
