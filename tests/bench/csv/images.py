# SPDX-License-Identifier: GPL-2.0-or-later
"""The images that are compared, and the programs that use them."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

FORMATS = ('raw', 'qcow2', 'qcow2_2m', 'csv')
BEFORE = 'csv_before'   # csv of another build
OPTIONS = {'qcow2_2m': ['-o', 'cluster_size=2M,extended_l2=on']}
LUN = ['-o', 'volume_size=1T']  # of csv: room as a shared volume has it
K, M, G = 1 << 10, 1 << 20, 1 << 30
SPAN = 256 * M          # of images that hold data
THIN = 4 * G            # of images that get their first writes
CPUS = tuple(sorted(os.sched_getaffinity(0)))


def driver(fmt):
    return fmt.partition('_')[0]


def suffix(fmt):
    """
    Of files.  Where a file is in memory makes a difference of a quarter to
    sequential reads, so both builds of csv use the same one.
    """
    return 'csv' if fmt == BEFORE else fmt


def on(*cpus):
    """
    Runs a child on some CPUs only (preexec_fn).  A program and the kernel's
    workers for its I/O take turns on one CPU; on two it is chance whether they
    run side by side, which halves or doubles a figure.
    """
    return lambda: os.sched_setaffinity(0, cpus)


class Images:
    def __init__(self, build, out, share=None):
        """@share: other Images, by another build, in the same folders."""
        self.build = build
        self.folders = share.folders if share else {
            'memory': Path(tempfile.mkdtemp(prefix='csv-bench.',
                                            dir='/dev/shm')),
            'disk': Path(tempfile.mkdtemp(prefix='disk.', dir=out))}
        self.aio = {medium: self.find_aio(medium) for medium in self.folders}

    def remove(self):
        for folder in self.folders.values():
            shutil.rmtree(folder, ignore_errors=True)

    def run(self, *cmd, timeout=300, cpus=CPUS):
        result = subprocess.run([str(c) for c in cmd], text=True, check=False,
                                stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, timeout=timeout,
                                preexec_fn=on(*cpus))
        if result.returncode:
            raise RuntimeError(f'{Path(cmd[0]).name}: '
                               f'{result.stderr.strip()[-300:]}')
        return result.stdout

    def find_aio(self, medium):
        """io_uring for all where it works: threads measure the scheduler."""
        path = self.folders[medium] / 'probe'
        path.write_bytes(bytes(K * 4))
        for aio in 'io_uring', 'native' if medium == 'disk' else 'threads':
            self.aio = {medium: aio}
            try:
                self.run(self.build / 'qemu-img', 'bench', '-c', 1, '-d', 1,
                         '-s', 4 * K, '--image-opts',
                         'driver=raw,file.driver=file,'
                         f'file.filename={path},file.aio={aio},cache.direct='
                         f'{"on" if medium == "disk" else "off"}')
                break
            except RuntimeError:
                pass
        path.unlink()
        return aio

    def node(self, fmt, path, medium):
        """What -blockdev takes, without a backing chain of its own."""
        cache = {'direct': medium == 'disk', 'no-flush': False}
        return {'driver': driver(fmt), 'cache': cache,
                'file': {'driver': 'file', 'filename': str(path),
                         'aio': self.aio[medium], 'cache': cache}}

    def create(self, fmt, medium, name, size=SPAN, base=None, opts=()):
        path = self.folders[medium] / name
        path.unlink(missing_ok=True)
        base = ['-b', base, '-F', driver(fmt)] if base else []
        self.run(self.build / 'qemu-img', 'create', '-q', '-f', driver(fmt),
                 *OPTIONS.get(fmt, []), *opts, *base, path, size)
        return path

    def block(self, node, *opts, timeout=300, cpus=CPUS[-1:]):
        return json.loads(self.run(
            self.build / 'tests/unit/csv/bench-csv-block', *opts,
            json.dumps(node), timeout=timeout, cpus=cpus))

    def full(self, fmt, medium):
        """An image that was written once from end to end, kept for later."""
        path = self.folders[medium] / f'full.{suffix(fmt)}'
        if not path.exists():
            path = self.create(fmt, medium, path.name)
            self.block(self.node(fmt, path, medium), '-s', SPAN, '-b', M,
                       '-n', SPAN // M, '-t', 120000, '-S', '-r', 0, '-d', 4)
        return path

    def chain(self, fmt, medium, length, top='chain'):
        """
        A node whose data are @length images further down.  raw knows no
        backing images: it shows what the data cost without any.
        """
        path = self.full(fmt, medium)
        node = self.node(fmt, path, medium)
        if fmt == 'raw':
            return node
        for i in range(length):
            name = f'{top if i == length - 1 else "mid"}{i}.{suffix(fmt)}'
            upper = self.folders[medium] / name
            if i == length - 1 or not upper.exists():
                self.create(fmt, medium, name, base=path)
            node = {**self.node(fmt, upper, medium),
                    'backing': {**node, 'read-only': True}}
            path = upper
        return node


def memory_of(pid):
    """KiB of memory that a process has."""
    pages = int(Path(f'/proc/{pid}/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') // K


def cpu_of(pid):
    """Seconds of CPU that a process has used."""
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
