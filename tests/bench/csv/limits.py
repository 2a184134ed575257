# SPDX-License-Identifier: GPL-2.0-or-later
"""What is done once per disk: open, hand over, create, delete."""

import json
import struct
import time
from contextlib import ExitStack
from pathlib import Path

from daemon import Daemon
from images import G, K, M, driver, suffix

TIB = 1 << 40
DISKS = 1000
MEMBERS = 500


def make_tib(images, fmt):
    """
    A 1 TiB disk of which each 2 MiB is mapped.  The file node turns the
    zeroes that are written into holes, so that it fits into memory.
    """
    path = images.folders['memory'] / f'tib.{suffix(fmt)}'
    if path.exists():
        return path
    if driver(fmt) == 'qcow2':
        options = {'qcow2': '', 'qcow2_2m': ',cluster_size=2M,extended_l2=on'}
        images.run(images.build / 'qemu-img', 'create', '-q', '-f', 'qcow2',
                   '-o', f'preallocation=metadata{options[fmt]}', path, TIB)
        return path
    images.create(fmt, 'memory', path.name, TIB)
    if driver(fmt) == 'csv':
        node = images.node(fmt, path, 'memory')
        node['file'].update({'detect-zeroes': 'unmap', 'discard': 'unmap'})
        images.block(node, '-s', TIB, '-u', 2 * M, '-b', 4 * K, '-z', '-r', 0,
                     '-n', TIB // (2 * M), '-d', 16, '-t', 280000)
    return path


def open_tib(images, fmt):
    """Opened for writing, and one read; the memory is that of the open."""
    path = make_tib(images, fmt)
    found = images.block(images.node(fmt, path, 'memory'), '-s', TIB, '-b',
                         4 * K, '-n', 1)
    return {'ops': 1, 'seconds': found['open_ms'] / 1000, 'cpu_us': 0,
            'cost_by': 'cpu time', 'kib': found['open_kib']}


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def fill_members(path):
    """Members of another host in 500 slots, see docs/interop/csv.rst."""
    with open(path, 'r+b') as f:
        for slot in range(MEMBERS):
            f.seek(M + slot * 4 * K)
            record = bytearray(f.read(512))
            struct.pack_into('<IIQ', record, 32, 1, 0, 7)   # active, by lock
            struct.pack_into('16s', record, 80, b'another host')
            struct.pack_into('64s', record, 112, b'another')
            struct.pack_into('16s', record, 176, b'another boot')
            struct.pack_into('<I', record, 4, 0)
            struct.pack_into('<I', record, 4, crc32c(record))
            f.seek(-512, 1)
            f.write(record)


def hand_over(images, fmt, medium, tib=False):
    """
    From the command to the source until the destination can write, which is a
    new process each time.  @tib: the disk of open_tib(), on a volume that has
    many members.
    """
    path = make_tib(images, fmt) if tib else images.full(fmt, medium)
    if tib and driver(fmt) == 'csv':
        fill_members(path)
    node = {**images.node(fmt, path, medium), 'node-name': 'disk'}
    folder = images.folders[medium]
    rounds, seconds = 10, 0
    with ExitStack() as daemons:
        src = daemons.enter_context(Daemon(images.build, folder, 'at0',
                                           '--blockdev', json.dumps(node)))
        for i in range(1, rounds + 1):
            dst = daemons.enter_context(Daemon(images.build, folder,
                                               f'at{i}'))
            dst.command('blockdev-add', **node, active=False)
            start = time.monotonic()
            for daemon, active in (src, False), (dst, True):
                daemon.command('blockdev-set-active',
                               **{'node-name': 'disk'}, active=active)
            seconds += time.monotonic() - start
            src = dst
    return {'ops': rounds, 'seconds': seconds, 'cpu_us': 0,
            'cost_by': 'cpu time'}


def make_files(daemon, folder, fmt):
    """Each disk a file, as a manager makes them over QMP."""
    options = {'raw': {}, 'qcow2': {}, 'qcow2_2m':
               {'cluster-size': 2 * M, 'extended-l2': True}}
    for i in range(DISKS):
        path = str(folder / f'{i}.img')
        daemon.create(driver='file', filename=path,
                      size=G if fmt == 'raw' else 0)
        if fmt == 'raw':
            continue
        daemon.command('blockdev-add', driver='file', filename=path,
                       **{'node-name': 'file'})
        daemon.create(driver='qcow2', file='file', size=G, **options[fmt])
        daemon.command('blockdev-del', **{'node-name': 'file'})


def many(images, fmt, medium):
    """Create 1,000 disks of 1 GiB, then delete them: two measurements."""
    folder = images.folders[medium] / f'many.{suffix(fmt)}'
    folder.mkdir(exist_ok=True)
    with Daemon(images.build, folder, 'many') as daemon:
        if driver(fmt) == 'csv':
            path = str(folder / 'volume')
            images.run(images.build / 'qemu-img', 'create', '-q', '-f', 'csv',
                       '-o', 'volume=many,volume_size=64G,segment_size=32M',
                       path, 0)
            daemon.command('blockdev-add', driver='file', filename=path,
                           **{'node-name': 'file'})
        start = time.monotonic()
        if driver(fmt) == 'csv':
            for i in range(DISKS):
                daemon.create(driver='csv', file='file', size=G, disk=f'd{i}')
        else:
            make_files(daemon, folder, fmt)
        made = time.monotonic()
        if driver(fmt) == 'csv':
            for i in range(DISKS):
                daemon.command('csv-disk-delete', volume='file', disk=f'd{i}')
        else:
            for i in range(DISKS):
                Path(folder / f'{i}.img').unlink()
        gone = time.monotonic()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    return [{'ops': DISKS, 'seconds': s, 'cpu_us': 0, 'cost_by': 'cpu time'}
            for s in (made - start, gone - made)]
