# SPDX-License-Identifier: GPL-2.0-or-later
"""What each 512-byte sector of a disk may hold after a crash.

A write fills each of its sectors with the number of the disk, the number of
the sector and the number of the write, so that a sector that is torn, stale or
somebody else's is told from one that is right.  For each sector the model
keeps the values it may have: the last one from before the last acknowledged
flush, and every later one.  Requests that overlap are never in flight
together, so that the order of the writes to one sector is known.
"""

import os
import random
import struct

SECTOR = 512
WORDS = struct.Struct('<8sIIQQ')     # magic, disk, zero, sector, sequence
MAGIC = b'csvstres'
REPEAT = SECTOR // WORDS.size
ZERO = bytes(SECTOR)


def fill(disk, first, count, seq):
    """The bytes of COUNT sectors from FIRST on, written by write SEQ."""
    pack = WORDS.pack
    return b''.join(pack(MAGIC, disk, 0, sector, seq) * REPEAT
                    for sector in range(first, first + count))


def value_of(data, sector):
    """(disk, sequence) of a sector, 0 for zeroes, or a text for neither."""
    if data == ZERO:
        return 0
    magic, disk, _, number, seq = WORDS.unpack_from(data)
    if magic != MAGIC:
        return f'garbage {data[:32].hex()}'
    if data != data[:WORDS.size] * REPEAT:
        return f'torn: begins with disk {disk} sector {number} write {seq}'
    if number != sector:
        return f'sector {number} of disk {disk}, write {seq}'
    return disk, seq


class Request:
    """One request, and when it was acknowledged."""

    def __init__(self, kind, first=0, count=0, value=0, fua=False):
        self.kind = kind        # write, zero, trim, read, flush
        self.first = first
        self.count = count
        self.value = value
        self.fua = fua
        self.acked = None
        self.issued = 0

    def __str__(self):
        return f'{self.kind} {self.first}+{self.count} {self.value}'


class Model:
    """The sectors of one disk; those never written are not in `versions`."""

    def __init__(self, disk, size):
        self.disk = disk
        self.size = size
        self.seq = 0
        self.versions = {}      # sector: what was written there, oldest first
        self.clock = 0
        self.dirty = set()      # sectors with more than one version
        self.in_flight = []
        self.inherited = {}     # of the backing disk: sector: value
        self.counts = {}

    # -- before and after a request -------------------------------------

    def make(self, kind, first=0, count=0, fua=False):
        value = 0
        if kind == 'write':
            self.seq += 1
            value = (self.disk, self.seq)
        return Request(kind, first, count, value, fua)

    def busy(self, first, count):
        return any(r.first < first + count and first < r.first + r.count
                   for r in self.in_flight)

    def issue(self, req):
        self.clock += 1
        req.issued = self.clock
        self.in_flight.append(req)
        if req.kind in ('write', 'zero', 'trim'):
            for sector in range(req.first, req.first + req.count):
                self.versions.setdefault(
                    sector, [self.inherited.get(sector, 0)]).append(req)
                self.dirty.add(sector)

    def ack(self, req):
        self.clock += 1
        req.acked = self.clock
        self.in_flight.remove(req)
        self.counts[req.kind] = self.counts.get(req.kind, 0) + 1
        if req.kind == 'flush':
            for sector in list(self.dirty):
                self._settle(sector, req.issued)
        elif req.fua:
            for sector in range(req.first, req.first + req.count):
                self._settle(sector, req.acked + 1)

    def _settle(self, sector, before):
        """Forget what an acknowledged flush has made impossible."""
        versions = self.versions[sector]
        last = len(versions) - 1
        while last > 0 and not (versions[last].acked and
                                versions[last].acked < before):
            last -= 1
        # after a trim the sector may as well be what it was before
        while last > 0 and versions[last].kind == 'trim':
            last -= 1
        del versions[:last]
        if len(versions) == 1:
            self.dirty.discard(sector)

    # -- what may be there ------------------------------------------------

    @staticmethod
    def _value(version):
        return version.value if isinstance(version, Request) else version

    def allowed(self, sector):
        """All values the sector may have after a crash now."""
        versions = self.versions.get(sector)
        if versions is None:
            return [self.inherited.get(sector, 0)]
        return [self._value(v) for v in versions]

    def current(self, sector):
        """The values a read may return while nothing writes the sector."""
        versions = self.versions.get(sector)
        if versions is None:
            return [self.inherited.get(sector, 0)]
        values = []
        for version in reversed(versions):
            values.append(self._value(version))
            if not (isinstance(version, Request) and version.kind == 'trim'):
                break
        return values

    def check_read(self, first, data):
        """Is this what a read may return?  A list of complaints."""
        return self._compare(first, data, self.current)

    def _compare(self, first, data, values):
        wrong = []
        for at in range(0, len(data), SECTOR):
            sector = first + at // SECTOR
            found = value_of(data[at:at + SECTOR], sector)
            allowed = values(sector)
            if found not in allowed:
                wrong.append(f'sector {sector} (byte {sector * SECTOR}) is'
                             f' {name(found)}; allowed:'
                             f' {", ".join(name(v) for v in allowed)}')
        return wrong

    def clean_end(self):
        """The owner ended as it should: nothing in flight, all flushed."""
        self.clock += 1
        self.in_flight.clear()
        for sector in list(self.dirty):
            self._settle(sector, self.clock)

    def check_image(self, path, adopt=True):
        """Compare all of a raw image, and with ADOPT take its contents as
        what is there from now on.  A list of complaints."""
        self.in_flight.clear()
        wrong = []
        seen = {}
        with open(path, 'rb') as image:
            size = os.fstat(image.fileno()).st_size
            if size != self.size:
                wrong.append(f'the disk has {size} bytes, not {self.size}')
            for sector, data in extents(image, size):
                for at in range(0, len(data), SECTOR):
                    part = data[at:at + SECTOR]
                    if part != ZERO:
                        seen[sector + at // SECTOR] = value_of(
                            part, sector + at // SECTOR)
        for sector in seen.keys() | self.versions.keys() | \
                self.inherited.keys():
            found = seen.get(sector, 0)
            allowed = self.allowed(sector)
            if found not in allowed:
                wrong.append(f'sector {sector} (byte {sector * SECTOR}) is'
                             f' {name(found)}; allowed:'
                             f' {", ".join(name(v) for v in allowed)}')
            if adopt and sector in self.versions:
                self.versions[sector] = [found]
        if adopt:
            self.dirty.clear()
        return wrong

    def snapshot(self, disk):
        """The model of a new disk with this one, at rest, behind it."""
        child = Model(disk, self.size)
        for sector in self.versions.keys() | self.inherited.keys():
            values = self.allowed(sector)
            assert len(values) == 1, 'the backing disk is not at rest'
            if values[0]:
                child.inherited[sector] = values[0]
        return child

    def resize(self, size):
        """What lay past a smaller size reads as zeroes when it grows again."""
        if size < self.size:
            for table in (self.versions, self.inherited):
                for sector in [s for s in table if s >= size // SECTOR]:
                    del table[sector]
            self.dirty &= self.versions.keys()
        self.size = size


def name(value):
    if value == 0:
        return 'zeroes'
    if isinstance(value, tuple):
        return f'write {value[1]} of disk {value[0]}'
    return value


def extents(image, size):
    """(sector, bytes) of all that is not a hole, a MiB at a time."""
    at = 0
    while at < size:
        try:
            at = os.lseek(image.fileno(), at, os.SEEK_DATA)
            end = os.lseek(image.fileno(), at, os.SEEK_HOLE)
        except OSError:
            return
        at -= at % SECTOR
        while at < end:
            data = os.pread(image.fileno(), min(1 << 20, end - at), at)
            if not data:
                return
            yield at // SECTOR, data
            at += len(data)


class Workload:
    """Random requests, most of them close together in a few places."""

    MIX = (('write', 56), ('flush', 8), ('read', 8), ('zero', 10),
           ('trim', 10), ('fua', 8))

    def __init__(self, rng: random.Random, model):
        self.rng = rng
        self.model = model
        self.kinds = [k for k, n in self.MIX for _ in range(n)]
        self.zones = [self._zone() for _ in range(rng.randint(2, 8))]

    def _zone(self):
        """Start and length in sectors; some at the seams of the map."""
        sectors = self.model.size // SECTOR
        length = min(sectors, self.rng.choice((64, 2048, 4096, 16384)))
        seam = self.rng.choice((1, 4096, 31 * 4096, 254 * 4096, 3968 * 4096,
                                4064 * 4096))
        start = self.rng.randrange(sectors) // seam * seam
        start -= self.rng.choice((0, 0, length // 2))
        return max(0, min(start, sectors - length)), length

    def next(self):
        """A request that overlaps none in flight; None if there is none."""
        rng = self.rng
        kind = rng.choice(self.kinds)
        if kind == 'flush':
            return self.model.make('flush')
        for _ in range(20):
            start, length = rng.choice(self.zones)
            count = rng.choice((1, 1, 2, 8, 8, 8, 16, 128, 128, 200, 512,
                                1024, 4096))
            if count == 4096 and kind in ('write', 'fua', 'read'):
                count = 128
            count = min(count, length)
            first = start + rng.randrange(length - count + 1)
            if rng.random() < 0.7:
                first -= first % min(count, 128)
            first = max(0, first)
            if not self.model.busy(first, count):
                if kind == 'fua':
                    return self.model.make('write', first, count, True)
                fua = kind in ('zero',) and rng.random() < 0.2
                return self.model.make(kind, first, count, fua)
        return None
