# SPDX-License-Identifier: GPL-2.0-or-later
"""The log of QEMU's blklogwrites, whose form is dm-log-writes', and its replay.

A header of one sector, then for each request one sector that says what it was
and, for writes, the data.  Requests stand in the order in which they were
completed.
"""

import os
import struct

SUPER = struct.Struct('<QQQI')      # magic, version, entries, sector size
ENTRY = struct.Struct('<QQQQ')      # sector, sectors, flags, length of a mark
MAGIC = 0x6a736677736872
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
TORN = 512


class Entry:
    def __init__(self, offset, length, flags, data_at):
        self.offset = offset        # in the image
        self.length = length
        self.flags = flags
        self.data_at = data_at      # in the log

    @property
    def is_flush(self):
        return bool(self.flags & FLUSH)


def read_super(log):
    """Number of entries, as the last flush left it; and the sector size."""
    head = os.pread(log.fileno(), SUPER.size, 0)
    if not head:
        return 0, 0
    magic, version, entries, sector = SUPER.unpack(head)
    if (magic, version) != (MAGIC, 1) or sector < TORN:
        raise ValueError(f'{log.name} is no log of writes')
    return entries, sector


def count(path):
    """How many entries there are at least; while QEMU writes the log."""
    with open(path, 'rb') as log:
        return read_super(log)[0]


class WriteLog:
    """All entries of a log that nobody writes any more."""

    def __init__(self, path):
        self.file = open(path, 'rb')
        counted, sector = read_super(self.file)
        end = os.fstat(self.file.fileno()).st_size
        self.entries = []
        at = sector
        while sector and at + ENTRY.size <= end:
            first, length, flags, _ = ENTRY.unpack(
                os.pread(self.file.fileno(), ENTRY.size, at))
            if flags & ~(FLUSH | FUA | DISCARD):
                raise ValueError(f'entry {len(self.entries)} of {path}:'
                                 f' flags {flags:#x}')
            at += sector
            self.entries.append(Entry(first * sector, length * sector, flags,
                                      at))
            if not flags & DISCARD:
                at += length * sector
        if len(self.entries) < counted:
            raise ValueError(f'{path} has {len(self.entries)} entries, not'
                             f' {counted}')

    def close(self):
        self.file.close()

    def apply(self, image, entry):
        """Do to the image, an open file, what the entry says."""
        self.apply_part(image, entry, 0, entry.length)

    def apply_part(self, image, entry, start, length):
        if entry.flags & DISCARD:
            self._zero(image, entry.offset + start, length)
            return
        while length:
            data = os.pread(self.file.fileno(), min(length, 1 << 20),
                            entry.data_at + start)
            if not data:        # the log ends in a hole: zeroes
                self._zero(image, entry.offset + start, length)
                return
            os.pwrite(image.fileno(), data, entry.offset + start)
            start += len(data)
            length -= len(data)

    @staticmethod
    def _zero(image, offset, length):
        while length:
            part = min(length, 1 << 20)
            os.pwrite(image.fileno(), bytes(part), offset)
            offset += part
            length -= part

    def apply_some(self, image, entry, rng):
        """What a power failure may leave of a request that was not flushed:
        nothing, all, or some of its sectors."""
        kind = rng.randrange(3)
        if kind == 0 and not entry.flags & FUA:
            return
        if kind == 1 or entry.flags & FUA:
            self.apply(image, entry)
            return
        at = 0
        while at < entry.length:
            run = min(entry.length - at, TORN * rng.choice((1, 2, 8, 64, 512)))
            if rng.random() < 0.5:
                self.apply_part(image, entry, at, run)
            at += run

    def groups(self):
        """(first, last + 1) of the entries up to each flush, and after the
        last one; those without a request but the flush are left out."""
        start = 0
        for number, entry in enumerate(self.entries):
            if entry.is_flush or entry.flags & FUA:
                if number > start or entry.length:
                    yield start, number + 1
                    start = number + 1
        if start < len(self.entries):
            yield start, len(self.entries)


def same(one, two):
    """Have both files the same bytes, but for zeroes at the end?"""
    with open(one, 'rb') as f, open(two, 'rb') as g:
        while True:
            a, b = f.read(1 << 20), g.read(1 << 20)
            if a != b and a.rstrip(b'\0') != b.rstrip(b'\0'):
                return False
            if not a and not b:
                return True
