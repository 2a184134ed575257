#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""A host loses its locks on the volume, and its processes go on, as it may
happen on NFS."""

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lib import build, case, say, storage       # noqa: E402
from lib.lab import Lab                         # noqa: E402
from lib.proc import until                      # noqa: E402
from lib.qmp import Qmp, QmpError               # noqa: E402
from lib.scene import Witness, must             # noqa: E402


class Member:
    """A process that has the volume on what it takes for NFS"""

    def __init__(self, scene: 'Scene', name: str):
        self.store = scene.store
        path = scene.lab.sockets / f'{name}.qmp'
        self.process = scene.host.popen(
            name, 'env', f'LD_PRELOAD={build.lose_locks()}',
            f'LOSE_LOCKS_FILE={self.store.path}',
            scene.tools / 'storage-daemon' / 'qemu-storage-daemon',
            '--blockdev', f'file,node-name=volume,filename={self.store.path}',
            '--chardev', f'socket,id=qmp,path={path},server=on,wait=off',
            '--monitor', 'chardev=qmp')
        self.qmp = Qmp(path, self.process.alive)

    def open(self, disk: str) -> None:
        self.qmp.cmd('blockdev-add', driver='csv', node_name=disk, disk=disk,
                     file='volume')

    def refused(self, disk: str) -> str:
        try:
            self.open(disk)
        except QmpError as why:
            say.note(str(why))
            return str(why)
        raise AssertionError(f'{disk} could be opened')

    def owner(self, disk: str) -> dict:
        volume = self.qmp.cmd('query-csv-volumes', node_name='volume')[0]
        return next(d['owner'] for d in volume['disks'] if d['name'] == disk)

    def lose_locks(self) -> None:
        self.process.signal(signal.SIGUSR2)

    def find_locks(self) -> None:
        """The server gives it locks again."""
        self.process.signal(signal.SIGWINCH)


class Scene:
    def __init__(self, lab: Lab, tools: Path):
        self.lab, self.tools = lab, tools
        self.store = storage.Storage(lab, tools, 'csv', '1G')
        for disk in ('data', 'more'):
            self.store.add(disk, '64M')
        self.host = lab.host('host-A')
        self.witness = Witness(lab, lab.host('witness'), tools, self.store)
        self.first, self.second = Member(self, 'one'), Member(self, 'two')


def vanishes(scene: Scene) -> None:
    """Who lost its lock and lives is not taken for dead, and gets it again."""
    scene.first.open('data')
    must(scene.second.owner('data')['liveness'] == 'alive', 'it is alive')
    scene.first.lose_locks()
    until('its lock is gone', lambda: scene.second.owner('data')['liveness']
          == 'unknown', 10)
    why = scene.second.refused('data')
    must('cannot be seen from here' in why, 'nobody knows whether it lives')
    scene.first.find_locks()
    until('it has its lock again', lambda: scene.second.owner('data')[
        'liveness'] == 'alive', 30)
    must('owned by another member' in scene.second.refused('data'),
         'it is alive')


def is_killed(scene: Scene) -> None:
    """When its process is gone, the disk is taken over at once."""
    scene.first.process.kill()
    must(scene.second.owner('data')['liveness'] == 'dead', 'it is dead')
    scene.second.open('data')


def is_declared_dead(scene: Scene) -> None:
    """Declared dead while its lock is gone, it writes nothing any more."""
    scene.second.lose_locks()
    scene.witness.evict('host-A', scene.second.process.pid_inside())
    scene.second.qmp.wait('CSV_VOLUME_WRITES', 30, state='cut-off')
    must('no longer a member' in scene.second.refused('more'),
         'it cannot open another disk')
    third = Member(scene, 'three')
    third.open('data')
    must(third.owner('data')['pid'] == third.process.pid_inside(),
         'another has the disk')


if __name__ == '__main__':
    case.end(case.main(__doc__, Scene,
                       [vanishes, is_killed, is_declared_dead], timeout=90))
