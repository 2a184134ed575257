# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk comes and goes once, and how long that took."""

import threading
import time
from dataclasses import dataclass
from typing import Callable

from lib import storage
from lib.hotplug import Sight
from lib.machine import Guest
from lib.proc import until
from lib.qmp import Qmp

SIZE = 16 << 20
RATE = 200                      # records a second, each with an fsync
RUN = 4711                      # of all records
LOADS = ('idle', 'load')
OTHER = 'other'                 # the disk that stays
NAMES = {'scsi': '/dev/sd[a-z]', 'virtio-blk': '/dev/vd[b-z]'}
CALM = 0.3                      # seconds before each measurement


@dataclass
class Turn:
    """In milliseconds, and records that were acknowledged and are lost."""
    attach_reply: float
    seen: float
    removed: float
    longest_answer: float
    records: int
    lost: int
    asked: int


class Place:
    """A guest. Its second writer has a root of its own, since the writers of
    one root share their counters."""

    ROOT = '/second'

    def __init__(self, guest: Guest):
        self.guest = guest
        self.first = 1          # the next record

    def prepare(self) -> None:
        self.guest.run(f'mkdir {self.ROOT} && mount --bind / {self.ROOT} && '
                       f'mount --bind /dev {self.ROOT}/dev')

    def busy(self) -> None:
        self.guest.run(f'chroot {self.ROOT} /bin/agent write /dev/vda '
                       f'{RATE} {RUN} {self.first}')

    def calm(self) -> None:
        self.guest.run(f'chroot {self.ROOT} /bin/agent stop')


class Asker:
    """Somebody else asks QEMU all the time; as a context."""

    def __init__(self, qmp: Qmp):
        self.qmp, self.longest = qmp, 0.0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        while not self.stop.wait(0.005):
            asked = time.monotonic()
            self.qmp.cmd('query-status')
            self.longest = max(self.longest, time.monotonic() - asked)

    def __enter__(self) -> 'Asker':
        self.thread.start()
        return self

    def __exit__(self, *_exc) -> None:
        self.stop.set()
        self.thread.join()


def ms(begun: float) -> float:
    return (time.monotonic() - begun) * 1000


def turn(place: Place, commands, bus: str, load: str,
         listing: Callable[[], list[str]]) -> Turn:
    """Attach and detach by COMMANDS; LISTING gives the disk's records."""
    guest, qmp = place.guest, place.guest.at.qmp
    if load == 'load':
        place.busy()
    sight = Sight(guest, NAMES[bus])
    time.sleep(CALM)
    with Asker(qmp) as first:
        begun = time.monotonic()
        commands.attach()
        attach_reply = ms(begun)
        name = sight.wait()
        seen = ms(begun)
    if not name.startswith('/dev/'):
        raise RuntimeError(f'the guest does not see the disk: {name}')
    if load == 'load':
        guest.write(name.removeprefix('/dev/'), RATE, RUN, place.first)
    time.sleep(CALM)
    with Asker(qmp) as second:
        begun = time.monotonic()
        commands.detach(begun)
        removed = ms(begun)
    if any(node.get('node-name') == commands.node['node-name']
           for node in qmp.cmd('query-named-block-nodes')):
        raise RuntimeError('the node is still there')
    until('the guest has let go', lambda: not guest.run(
        f'ls {NAMES[bus]} 2>/dev/null || true').strip(), 60, 0.05)
    records, wrong = 0, []
    if load == 'load':
        place.calm()
        until('the writer has seen the end',
              lambda: not guest.state()['writing'], 60, 0.05)
        durable = guest.state()['durable']
        records = durable - place.first + 1
        wrong = storage.check_records(listing(), storage.slots_of(SIZE),
                                      place.first, durable)
        place.first = durable + 100
    return Turn(attach_reply, seen, removed,
                max(first.longest, second.longest) * 1000, records,
                len(wrong), commands.asked)
