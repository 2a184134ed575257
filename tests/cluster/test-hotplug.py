#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that come and go while a real guest runs, writes and moves."""

import dataclasses
import json
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lib import build, case, say, storage       # noqa: E402
from lib.hotplug import agent_runs, attach, detach, vanishes  # noqa: E402
from lib.machine import Machine                 # noqa: E402
from lib.move import move                      # noqa: E402
from lib.proc import until                      # noqa: E402
from lib.promise import Promised                # noqa: E402
from lib.scene import SIZE, Scene, must         # noqa: E402

RUN = 4711                      # of the records on disks that come and go


def begin(lab, tools) -> Scene:
    scene = Scene(lab, tools, hotplug=True, agent=True)
    agent_runs(scene.guest)
    return scene


def node(disk: str) -> dict:
    return {'driver': 'csv', 'node-name': disk, 'disk': disk,
            'file': 'volume'}


def create(disk: str) -> dict:
    return {'driver': 'csv', 'disk': disk, 'file': 'volume', 'size': SIZE}


def removed(scene: Scene, disk, **how) -> dict:
    """Detach DISK; the guest must have let go, and nothing is left."""
    info = detach(scene.guest, disk, **how)
    must(info['state'] == 'removed' and info['flushed'], f'detach: {info}')
    vanishes(scene.guest, disk)
    must(not scene.guest.at.qmp.cmd('query-disks'), 'no disk is left')
    # by force: the guest gives the slot back after it has let the disk go
    until('its place is free', lambda: not any(
        slots['quarantined'] for slots in
        scene.guest.at.qmp.cmd('query-disk-slots')), 20)
    say.step(f'{disk.name} went in {info["elapsed"]} ms')
    return info


def file_system(scene: Scene) -> None:
    """A new disk gets a file system, and goes and comes back with it."""
    guest, given = scene.guest, {'create': create('hot1')}
    guest.run('mkdir -p /hot; dd if=/dev/urandom of=/tmp/f bs=64k count=40 2>&1')
    for bus in ('scsi', 'virtio-blk'):
        disk = attach(guest, node('hot1'), bus=bus, **given)
        given = {}
        say.step(f'hot1 is {disk.name}')
        guest.run(f'mke2fs /dev/{disk.name} 2>&1; '
                  f'mount /dev/{disk.name} /hot')
        guest.run('cp /tmp/f /hot/f; md5sum < /tmp/f > /hot/sum')
        # Still mounted: Linux lets a SCSI disk go without writing out what it
        # has in memory, so the agent does that.
        info = removed(scene, disk)
        must(info['asked'] == 1, 'the guest was asked')
        must(info['agent'] == 'written-out', f'the agent, too: {info}')
        guest.run('umount -l /hot')
        disk = attach(guest, node('hot1'), bus=bus)
        guest.run(f'mount /dev/{disk.name} /hot')
        guest.run('md5sum < /hot/f | cmp - /hot/sum')
        guest.run('umount /hot')
        removed(scene, disk)


def unmounted(scene: Scene) -> None:
    """The agent unmounts a disk, unless it is in use."""
    guest, how = scene.guest, {'agent': 'unmount'}
    disk = attach(guest, node('hot1'), bus='scsi')
    guest.run(f'mount /dev/{disk.name} /hot; mkdir -p /hot/in; '
              'mount -t tmpfs tmpfs /hot/in')
    # what keeps it busy is another file system, which is not the disk's
    info = detach(guest, disk, **how)
    must(info['state'] == 'refused' and info['agent'] == 'failed'
         and 'umount' in info['reason'] and 'busy' in info['reason'],
         f'detach: {info}')
    say.step(info['reason'])
    guest.run('umount /hot/in; sleep 1000 < /hot/f > /dev/null 2>&1 & '
              'sleep 0.2')
    info = detach(guest, disk, **how)
    must(info['state'] == 'refused' and 'busy' in info['reason'],
         f'detach: {info}')
    guest.run('killall sleep || true; grep -q /hot /proc/mounts')
    info = removed(scene, disk, **how)
    must(info['agent'] == 'unmounted', f'detach: {info}')
    guest.run('! grep -q /hot /proc/mounts')


def managed(scene: Scene) -> None:
    """A manager that is connected keeps the agent to itself."""
    guest = scene.guest
    disk = attach(guest, node('hot1'), bus='scsi')
    with socket.socket(socket.AF_UNIX) as manager:
        manager.settimeout(30)
        manager.connect(str(guest.at.agent_path))
        file = manager.makefile('rwb', buffering=0)
        file.write(b'{"execute": "guest-ping"}\n')
        must(json.loads(file.readline()) == {'return': {}}, 'it answers')
        info = removed(scene, disk)
        must(info['agent'] == 'busy', f'detach: {info}')
        file.write(b'{"execute": "guest-ping"}\n')
        must(json.loads(file.readline()) == {'return': {}}, 'it still does')


def by_the_slot(scene: Scene) -> None:
    """A disk of its own in a slot, virtio-blk and nvme, is let go by ACPI."""
    guest = scene.guest
    guest.run('dd if=/dev/urandom of=/tmp/g bs=64k count=16 2>&1')
    for bus in ('virtio-blk', 'nvme', 'virtio-blk'):
        disk = attach(guest, node('hot1'), bus=bus)
        say.step(f'hot1 is {disk.name}')
        guest.run(f'dd if=/tmp/g of=/dev/{disk.name} bs=64k 2>&1')
        guest.run(f'head -c 1048576 /dev/{disk.name} | cmp - /tmp/g')
        removed(scene, disk)


def _while_it_writes(scene: Scene, name: str, **how) -> None:
    guest = scene.guest
    for bus in ('scsi', 'virtio-blk'):
        first = guest.state()['durable'] + 1000
        data = f'{name}-{bus}'
        scene.store.add(data, str(SIZE))
        disk = attach(guest, node(data), bus=bus)
        guest.write(disk.name, 1000, RUN, first)
        removed(scene, disk, **how)
        state = guest.state()
        must(state['write_errno'], 'the writer has seen the end')
        wrong = storage.check_records(
            storage.list_records(scene.store.read_out(data)),
            storage.slots_of(SIZE), first, state['durable'])
        must(not wrong and state['durable'] > first, f'{bus}: {wrong[:3]}')
        say.step(f'{bus}: {state["durable"] - first + 1} records')


def under_load(scene: Scene) -> None:
    """While the guest writes: all that was acknowledged is there."""
    scene.guest.run('agent stop')
    _while_it_writes(scene, 'load')


def by_force(scene: Scene) -> None:
    """Pulled out while the guest writes: the same."""
    _while_it_writes(scene, 'force', mode='force')


def while_it_boots(scene: Scene) -> None:
    """What a guest that boots does not hear is said again."""
    plan = dataclasses.replace(scene.plan, nodes=[], disks=(), agent=False,
                               name='second',
                               mac='52:54:00:12:34:57',
                               address='10.77.0.51/24')
    machine = Machine(scene.lab, scene.a, plan, paused=True)
    qmp = machine.qmp
    qmp.cmd('disk-attach', id='early', bus='virtio-blk', blockdev={
        'driver': 'null-co', 'node-name': 'early'})
    qmp.cmd('cont')
    qmp.cmd('disk-detach', id='early', deadline=120000)
    until('the disk is gone', lambda: not qmp.cmd('query-disks'), 120)
    info = qmp.cmd('query-disk-detach')[-1]
    must(info['state'] == 'removed', f'detach: {info}')
    say.step(f'asked {info["asked"]} times in {info["elapsed"]} ms')
    machine.quit()


def moves(scene: Scene) -> None:
    """Attached here, detached and attached again on the other host."""
    guest, here = scene.guest, scene.guest.at.host
    guest.write('vda', 100, scene.run_id, scene.acknowledged() + 1)
    disks = [attach(guest, node('hot1'), bus='virtio-blk'),
             attach(guest, node('hot2'), create=create('hot2'))]
    names = {d.info['node-name']: d.info['guest-name'] for d in disks}
    for disk in disks:
        guest.run(f'dd if=/tmp/f of=/dev/{disk.name} bs=64k conv=fsync 2>&1')
    # not flushed: the move must do it
    guest.run(f'dd if=/tmp/g of=/dev/{disks[1].name} bs=64k oflag=direct 2>&1')
    move(guest, scene.other(), how=Promised(2000))
    must(guest.at.host is not here, 'it moved')
    there = guest.at.qmp.cmd('query-disks')
    must([d['guest-name'] for d in there] == [names['hot1'], names['hot2']],
         f'the disks are there: {there}')
    for disk, file in zip(disks, 'fg'):
        say.step(f'{disk.name} on {guest.at.host.name}')
        size = guest.run(f'stat -c %s /tmp/{file}').strip()
        compare = f'| head -c {size} | cmp - /tmp/{file}'
        guest.run(f'dd if=/dev/{disk.name} bs=64k iflag=direct count=64 '
                  f'2>/dev/null {compare}')
        info = detach(guest, disk)
        must(info['state'] == 'removed', f'detach: {info}')
        vanishes(guest, disk)
        again = attach(guest, node(disk.info['node-name']),
                       bus=disk.info['bus'])
        must(again.info['guest-name'] == disk.info['guest-name'],
             'it has its name')
        guest.run(f'head -c {size} /dev/{again.name} {compare}')
        removed(scene, again) if disk is disks[1] else detach(guest, again)
    scene.owned_by(guest.at)


if __name__ == '__main__':
    case.end(case.main(__doc__, begin,
                       [file_system, unmounted, managed, by_the_slot,
                        under_load, by_force, while_it_boots, moves],
                       timeout=300, initramfs=build.initramfs_with_agent))
