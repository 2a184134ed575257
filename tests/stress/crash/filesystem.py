# SPDX-License-Identifier: GPL-2.0-or-later
"""Files in a file system, and what must be there after a power failure.

A file's sectors are filled as those of a disk are (model.py), with the number
of the file in the place of the disk's.  What fsync or syncfs acknowledged is a
fact: it holds in each state of the storage from then on, until the next change
of the file begins.  Of anything else a state may hold old or new sectors, or
zeroes, but never those of another file or another place.
"""

import ctypes
import fcntl
import hashlib
import os
import re
import struct

from .model import SECTOR, fill, value_of
from .tools import Failed, Skip, must

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS = 0x20000
PUNCH_HOLE = 3                  # and keep the size
FITRIM = 0xc0185879
NAME = re.compile(r'f(\d+)\.\d+$')
LARGEST = 4096                  # sectors of a file


def own_mounts(tools):
    """Mounts from here on are this process's, and end with it."""
    if os.geteuid():
        raise Skip('only root can mount file systems')
    if LIBC.unshare(CLONE_NEWNS) or \
            tools.run('mount', '--make-rprivate', '/').returncode:
        raise Skip('this root may not mount file systems')
    for path in ('/dev/fuse', '/dev/loop-control'):
        if not os.path.exists(path):
            raise Skip(f'there is no {path}')


class Mounted:
    """The file system in an image, mounted while the block lasts."""

    def __init__(self, tools, image, folder, options):
        self.tools, self.folder = tools, folder
        os.makedirs(folder, exist_ok=True)
        run = tools.run('mount', '-o', f'loop,{options}', image, folder)
        if 'unknown filesystem type' in run.stdout or \
                'failed to setup loop device' in run.stdout:
            raise Skip(run.stdout.strip())
        must(run.returncode == 0, f'mount {image}:', run.stdout.strip())

    def __enter__(self):
        return self.folder

    def __exit__(self, *_):
        self.tools.ok('umount', self.folder)


class Ext4:
    name = 'ext4'
    size = '96M'
    programs = ('mkfs.ext4', 'e2fsck')
    options = 'noatime'

    def __init__(self, tools):
        self.tools = tools

    def make(self, image):
        self.tools.ok('mkfs.ext4', '-q', '-F', '-E', 'lazy_itable_init=0',
                      image)

    def check(self, image, folder, look):
        """Replay its journal, check it, and call LOOK on its root."""
        run = self.tools.run('e2fsck', '-p', '-E', 'journal_only', image)
        must(run.returncode in (0, 1), 'e2fsck -E journal_only:', run.stdout)
        self.tools.ok('e2fsck', '-fn', image)
        with Mounted(self.tools, image, folder, self.options) as root:
            look(root)


class Xfs:
    name = 'xfs'
    size = '320M'
    programs = ('mkfs.xfs', 'xfs_repair')
    options = 'noatime,nouuid'

    def __init__(self, tools):
        self.tools = tools

    def make(self, image):
        self.tools.ok('mkfs.xfs', '-q', '-f', image)

    def check(self, image, folder, look):
        """As for ext4, but only the kernel can replay its log."""
        with Mounted(self.tools, image, folder, self.options) as root:
            look(root)
        self.tools.ok('xfs_repair', '-n', '-f', image)


class File:
    def __init__(self, number):
        self.number = number
        self.seqs = []          # of each sector the last write; 0 for zeroes
        self.renames = 0
        self.fact = None


class Fact:
    """The file PATH has these sectors, or (None) there is none."""

    def __init__(self, path, number, seqs, since):
        self.path, self.number, self.seqs = path, number, seqs
        self.since = since      # this many entries of the log
        self.until = None
        self.digest = None
        if seqs is not None:
            self.digest = hashlib.sha1(b''.join(
                self.sector(n) for n in range(len(seqs)))).digest()

    def sector(self, n):
        if not self.seqs[n]:
            return bytes(SECTOR)
        return fill(self.number, n, 1, self.seqs[n])

    def holds(self, low, high):
        return self.since <= low and (self.until is None or
                                      high <= self.until)

    def wrong(self, data):
        """What is wrong with the file's bytes, or None."""
        if len(data) != len(self.seqs) * SECTOR:
            return f'has {len(data)} bytes, not {len(self.seqs) * SECTOR}'
        for n in range(len(self.seqs)):
            part = data[n * SECTOR:(n + 1) * SECTOR]
            if part != self.sector(n):
                return (f'sector {n} is {value_of(part, n)}, not'
                        f' write {self.seqs[n]} of file {self.number}')
        return None


class Files:
    """Random work on files.  NOW() is how many entries the log has at least,
    and all of them at the end of a sync."""

    KINDS = ('create', 'create', 'create', 'write', 'write', 'write', 'append',
             'truncate', 'punch', 'rename', 'unlink', 'sync')

    def __init__(self, rng, root, now):
        self.rng, self.root, self.now = rng, root, now
        self.files = {}
        self.facts = []
        self.made = self.seq = 0
        for folder in ('a', 'b', 'c'):
            os.mkdir(os.path.join(root, folder))
        self.sync()

    def step(self):
        kind = self.rng.choice(self.KINDS)
        if kind == 'sync':
            self.sync()
        elif kind == 'create' or len(self.files) < 4:
            self.create()
        else:
            self.change(kind, self.rng.choice(sorted(self.files)))

    def count(self):
        return self.rng.choice((1, 3, 8, 8, 17, 64, 128, 256, 700))

    # -- what was acknowledged ---------------------------------------------

    def acknowledged(self, path, file):
        file.fact = Fact(path, file.number, tuple(file.seqs), self.now())
        self.facts.append(file.fact)

    def begin(self, file):
        if file.fact:
            file.fact.until = self.now()
            file.fact = None

    def sync(self):
        fd = os.open(self.root, os.O_RDONLY)
        try:
            if LIBC.syncfs(fd):
                raise OSError(ctypes.get_errno(), 'syncfs')
            for path, file in self.files.items():
                if not file.fact:
                    self.acknowledged(path, file)
            if self.rng.random() < 0.3:
                self.trim(fd)
        finally:
            os.close(fd)

    @staticmethod
    def trim(fd):
        try:
            fcntl.ioctl(fd, FITRIM, struct.pack('<QQQ', 0, 1 << 62, 0))
        except OSError:
            pass                # the kernel's matter: a part did not fit

    def fsync_folder(self, path):
        fd = os.open(os.path.join(self.root, os.path.dirname(path)),
                     os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)

    def fsync(self, path, file, fd):
        os.fsync(fd)
        self.fsync_folder(path)
        self.acknowledged(path, file)

    def gone(self, path):
        self.fsync_folder(path)
        self.facts.append(Fact(path, 0, None, self.now()))

    # -- changes -------------------------------------------------------------

    def write(self, file, fd, first, count):
        self.seq += 1
        os.pwrite(fd, fill(file.number, first, count, self.seq),
                  first * SECTOR)
        file.seqs += [0] * (first + count - len(file.seqs))
        file.seqs[first:first + count] = [self.seq] * count

    def create(self):
        self.made += 1
        file = File(self.made)
        path = f'{self.rng.choice("abc")}/f{file.number}.0'
        fd = os.open(os.path.join(self.root, path), os.O_RDWR | os.O_CREAT)
        try:
            self.write(file, fd, 0, self.count())
            self.files[path] = file
            if self.rng.random() < 0.6:
                self.fsync(path, file, fd)
        finally:
            os.close(fd)

    def change(self, kind, path):
        file = self.files[path]
        self.begin(file)
        if kind == 'unlink':
            os.unlink(os.path.join(self.root, path))
            del self.files[path]
            if self.rng.random() < 0.5:
                self.gone(path)
            return
        if kind == 'rename':
            path = self.rename(path, file)
        fd = os.open(os.path.join(self.root, path), os.O_RDWR)
        try:
            getattr(self, f'do_{kind}', lambda *_: None)(file, fd)
            if self.rng.random() < 0.6:
                self.fsync(path, file, fd)
        finally:
            os.close(fd)

    def rename(self, path, file):
        file.renames += 1
        new = f'{self.rng.choice("abc")}/f{file.number}.{file.renames}'
        os.rename(os.path.join(self.root, path), os.path.join(self.root, new))
        self.files[new] = self.files.pop(path)
        if self.rng.random() < 0.5:
            self.fsync_folder(new)
            self.gone(path)
        return new

    def do_write(self, file, fd):
        first = self.rng.randrange(len(file.seqs) + 1)
        self.write(file, fd, first, min(self.count(), LARGEST - first))

    def do_append(self, file, fd):
        first = len(file.seqs)
        if first < LARGEST:
            self.write(file, fd, first, min(self.count(), LARGEST - first))

    def do_truncate(self, file, fd):
        size = self.rng.randrange(2 * len(file.seqs) + 2) % LARGEST
        os.ftruncate(fd, size * SECTOR)
        del file.seqs[size:]
        file.seqs += [0] * (size - len(file.seqs))

    def do_punch(self, file, fd):
        first = self.rng.randrange(len(file.seqs) + 1)
        count = min(self.count(), len(file.seqs) - first)
        if count <= 0:
            return
        if LIBC.fallocate(fd, PUNCH_HOLE, ctypes.c_long(first * SECTOR),
                          ctypes.c_long(count * SECTOR)):
            raise OSError(ctypes.get_errno(), 'fallocate')
        file.seqs[first:first + count] = [0] * count

    # -- looking at a state ---------------------------------------------------

    def look(self, root, low, high):
        """Is what ROOT has possible, when the first LOW entries of the log
        are on the storage, and none behind the first HIGH?"""
        facts = {f.path: f for f in self.facts if f.holds(low, high)}
        wrong = []
        for path in self.found(root):
            with open(os.path.join(root, path), 'rb') as f:
                data = f.read()
            fact = facts.pop(path, None)
            if fact and fact.digest == hashlib.sha1(data).digest():
                continue
            if fact:
                wrong.append(f'{path} ' + (
                    'was deleted' if fact.seqs is None
                    else fact.wrong(data)))
            else:
                wrong += self.strange(path, data)
        wrong += [f'{path} is not there' for path, fact in facts.items()
                  if fact.seqs is not None]
        if wrong:
            raise Failed('\n'.join([f'{len(wrong)} files are wrong',
                                    *wrong[:10]]))

    @staticmethod
    def found(root):
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                yield os.path.relpath(os.path.join(folder, name), root)

    def strange(self, path, data):
        match = NAME.search(path)
        if not match:
            return [f'{path} was never made']
        for n in range(len(data) // SECTOR):
            value = value_of(data[n * SECTOR:(n + 1) * SECTOR], n)
            if value and (isinstance(value, str) or
                          value[0] != int(match[1]) or value[1] > self.seq):
                return [f'{path}: sector {n} is {value}']
        return []
