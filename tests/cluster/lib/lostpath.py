# SPDX-License-Identifier: GPL-2.0-or-later
"""A process's path to the volume: host/lost-path.c counts its requests, and
lets them pass, fail or hang. This is the other end of its control file."""

import mmap
import struct
import threading
import time
from pathlib import Path

from . import build

PASS, FAIL, HANG, LATE, KILL = range(5)
_MODE, _AT_STOP, _STOP, _COUNT, _LOG = 0, 4, 8, 16, 24
_LOG_SIZE = 65536
_CHANGES = 'wWflutao'           # kinds that change the volume, or its locks
_PAUSE = 0.4                    # seconds for which a path hangs
FAULTS = {'kill': KILL, 'fail': FAIL, 'late': LATE, 'hang': HANG}


class LostPath:
    """To the file VOLUME; CONTROL is made."""

    def __init__(self, volume: Path, control: Path):
        with open(control, 'w+b') as f:
            f.truncate(_LOG + _LOG_SIZE)
            self._map = mmap.mmap(f.fileno(), 0)
        self._stop = 0
        self.environment = [f'LD_PRELOAD={build.lost_path()}',
                            f'LOST_PATH_FILE={volume}',
                            f'LOST_PATH_CONTROL={control}']

    def _get(self, form: str, at: int) -> int:
        return struct.unpack_from(form, self._map, at)[0]

    @property
    def count(self) -> int:
        return self._get('=Q', _COUNT)

    @property
    def mode(self) -> int:
        return self._get('=I', _MODE)

    @property
    def hit(self) -> bool:
        """Has what was to happen at a request happened?"""
        return 0 < self._stop <= self.count

    def set(self, mode: int) -> None:
        """From now on; what was to happen at a request does not."""
        struct.pack_into('=Q', self._map, _STOP, 0)
        struct.pack_into('=I', self._map, _MODE, mode)

    def at(self, number: int, what: int) -> None:
        """WHAT happens at the request with this NUMBER, from now on: from it
        on all FAIL or HANG; LATE: it is done, and fails, as do all that
        follow; KILL: the process is killed before it does it."""
        if not number:
            return
        self._stop = self.count + number
        struct.pack_into('=I', self._map, _AT_STOP, what)
        struct.pack_into('=Q', self._map, _STOP, self._stop)

    def heal_later(self) -> None:
        """When it has hung for a moment"""
        def heal() -> None:
            end = time.monotonic() + 20
            while self.mode != HANG:
                if time.monotonic() > end:
                    return
                time.sleep(0.01)
            time.sleep(_PAUSE)
            self.set(PASS)
        threading.Thread(target=heal, daemon=True).start()

    def kinds(self, start: int) -> str:
        """One letter for each request after the first START; large reads and
        writes, of memory, have large ones."""
        return self._map[_LOG + start:_LOG + self.count].decode('ascii')


def choose(kinds: str, fault: str) -> list[int]:
    """The numbers of the requests of these KINDS where FAULT makes a
    difference: of reads in a row, one process dies like the other, and they
    are done or are not; of many that are alike, some will do."""
    chosen, row = [], 0
    for n, kind in enumerate(kinds, 1):
        changes = kind in _CHANGES
        row = row + 1 if n > 1 and kind == kinds[n - 2] else 0
        if (fault == 'kill' and not changes and n > 1
                and kinds[n - 2] not in _CHANGES):
            continue
        if fault in ('late', 'hang') and not changes:
            continue
        if row in (0, 1) or row % 8 == 0:
            chosen.append(n)
    # To stand still is all the same for most.
    return chosen[::3] if fault == 'hang' else chosen
