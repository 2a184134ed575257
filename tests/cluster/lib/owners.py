# SPDX-License-Identifier: GPL-2.0-or-later
"""Who owns the disks, asked all the time and from everywhere.

Each QEMU process is asked over its own monitor what the volume's records say.
Nobody sees two processes at the same instant, so what is compared are
intervals: an answer holds for some moment between question and reply.
"""

import threading
import time
from dataclasses import dataclass

from .machine import Machine
from .qmp import QmpError, QmpGone


@dataclass
class Sample:
    asked: float
    answered: float
    where: str
    disk: str
    state: str
    epoch: int
    owner: tuple | None         # member id and incarnation
    mine: bool                  # the process that answered is the owner
    running: bool               # its guest ran before and after


class Owners:
    """Watches the machines that it is told of, a thread for each."""

    def __init__(self, every: float):
        self.every = every
        self.samples: list[Sample] = []
        self.troubles: list[str] = []
        self.passing: set[str] = set()  # disks that the guest may run without
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def watch(self, machine: Machine) -> None:
        thread = threading.Thread(target=self._watch, args=(machine,),
                                  daemon=True)
        self._threads.append(thread)
        thread.start()

    def watch_witness(self, witness) -> None:
        """Watch through a process that only has the volume open."""
        thread = threading.Thread(
            target=self._watch, args=(witness, 'volume'), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _watch(self, machine, node: str | None = None) -> None:
        """Ask MACHINE, or the witness that has the volume as NODE."""
        which = {'node_name': node} if node else {}

        def runs() -> bool:
            return not node and machine.qmp.cmd('query-status')['running']

        while not self._stop.wait(self.every):
            try:
                before = runs()
                asked = time.monotonic()
                volumes = machine.qmp.cmd('query-csv-volumes', **which)
                answered = time.monotonic()
                running = before and runs()
            except QmpGone:
                return                  # this process has ended
            except QmpError as why:
                self.troubles.append(f'{machine.name}: {why}')
                return
            for volume in volumes:
                for disk in volume['disks']:
                    if disk['name'].endswith('.state'):
                        continue        # comes and goes, and is no guest's
                    owner = disk.get('owner')
                    self.samples.append(Sample(
                        asked, answered, machine.name, disk['name'],
                        disk['state'], disk['epoch'],
                        owner and (owner['id'], owner['incarnation']),
                        not node and machine.owns(disk), running))

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def check(self) -> list[str]:
        """Everything that contradicts "at most one owner"; [] is good."""
        wrong = list(self.troubles)
        for disk in sorted({s.disk for s in self.samples}):
            mine = [s for s in self.samples if s.disk == disk]
            wrong += self._check_disk(disk, mine)
        wrong += self._check_runners()
        more = len(wrong) - 5
        return wrong[:5] + ([f'and {more} more'] if more > 0 else [])

    def _check_runners(self) -> list[str]:
        """Who runs owns, and no two run at a time."""
        wrong = []
        last: Sample | None = None
        for s in sorted(self.samples, key=lambda s: s.asked):
            if not s.running or s.disk in self.passing:
                continue
            if not s.mine:
                wrong.append(f'{s.where} ran without owning {s.disk}: {s}')
            if last and last.where != s.where and s.asked < last.answered:
                wrong.append(f'{last.where} and {s.where} ran at a time')
            if not last or s.answered > last.answered:
                last = s
        return wrong

    @staticmethod
    def _check_disk(disk: str, samples: list[Sample]) -> list[str]:
        wrong = []
        holder: dict[int, tuple] = {}
        claimed: dict[int, str] = {}
        for s in samples:
            if s.state != 'owned' or s.owner is None:
                continue
            # an epoch belongs to one member for ever
            if holder.setdefault(s.epoch, s.owner) != s.owner:
                wrong.append(f'{disk}: epoch {s.epoch} was owned by '
                             f'{holder[s.epoch]} and by {s.owner}')
            if s.mine and claimed.setdefault(s.epoch, s.where) != s.where:
                wrong.append(f'{disk}: epoch {s.epoch} was claimed by '
                             f'{claimed[s.epoch]} and by {s.where}')
        # who asks after an answer was given never sees an older epoch
        newest = (0, 0.0, '')
        by_answer = sorted(samples, key=lambda s: s.answered)
        behind = 0
        for s in sorted(samples, key=lambda s: s.asked):
            while (behind < len(by_answer)
                   and by_answer[behind].answered < s.asked):
                b = by_answer[behind]
                newest = max(newest, (b.epoch, b.answered, b.where))
                behind += 1
            if s.epoch < newest[0]:
                wrong.append(f'{disk}: {s.where} still saw epoch {s.epoch} '
                             f'after {newest[2]} had seen {newest[0]}')
                break
        return wrong

    def epochs(self, disk: str) -> list[int]:
        return sorted({s.epoch for s in self.samples if s.disk == disk})
