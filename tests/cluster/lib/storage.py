# SPDX-License-Identifier: GPL-2.0-or-later
"""The shared storage: virtual disks in a csv volume (or raw files, to
compare), and the records that the guest's writer leaves on them."""

import hashlib
import json
import mmap
import os
import struct
import subprocess
import zlib
from pathlib import Path

from .lab import Lab

BLOCK, STRIDE = 4096, 4099              # guest/agent.c
_HEAD = struct.Struct('<8sQQQ')


def direct_io(folder: Path) -> bool:
    """Does the file system under FOLDER take O_DIRECT?"""
    path = folder / '.direct'
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600))
        return True
    except OSError:
        return False
    finally:
        path.unlink(missing_ok=True)


class Storage:
    """Disks by name on a folder that all hosts see."""

    def __init__(self, lab: Lab, tools: Path, driver: str, size: str = '4G'):
        self.lab, self.tools, self.driver = lab, tools, driver
        self.path = lab.shared / 'volume.csv'
        self.direct = direct_io(lab.shared)
        if driver == 'csv':
            self.img('create', '-q', '-f', 'csv', '-o',
                     f'volume=vol1,volume_size={size}', self.path, '0')

    def tool(self, name: str, *arguments, timeout: float = 120) -> str:
        done = subprocess.run(
            [str(self.tools / name), *map(str, arguments)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=timeout, check=False)
        if done.returncode:
            raise RuntimeError(f'{name} {" ".join(map(str, arguments))}: '
                               f'{done.stderr.strip() or done.stdout}')
        return done.stdout

    def img(self, *arguments) -> str:
        return self.tool('qemu-img', *arguments)

    def add(self, disk: str, size: str) -> None:
        if self.driver == 'csv':
            self.img('create', '-q', '-f', 'csv', '-o', f'disk={disk}',
                     self.path, size)
        else:
            self.img('create', '-q', '-f', 'raw', self._raw(disk), size)

    def _raw(self, disk: str) -> Path:
        return self.lab.shared / f'{disk}.raw'

    def node(self, disk: str, **options) -> dict:
        """The -blockdev object that opens DISK."""
        node = {'driver': self.driver, 'node-name': disk, 'file': {
            'driver': 'file', 'cache': {'direct': self.direct},
            'filename': str(self.path if self.driver == 'csv'
                            else self._raw(disk))}, **options}
        if self.driver == 'csv':
            node['disk'] = disk
        return node

    def nodes(self, *disks: str) -> list[dict]:
        """The -blockdev objects for a guest with DISKS. A csv volume is opened
        once, so that the process is one member of it."""
        nodes = [self.node(disk) for disk in disks]
        if self.driver != 'csv':
            return nodes
        volume = {'node-name': 'volume', **nodes[0]['file']}
        return [volume] + [{**node, 'file': 'volume'} for node in nodes]

    def json_name(self, disk: str) -> str:
        """The file name that makes a tool open DISK."""
        node = self.node(disk)
        del node['node-name']
        return 'json:' + json.dumps(node)

    def image_opts(self, disk: str) -> str:
        """The same for --image-opts."""
        node = self.node(disk)
        options = [f'driver={self.driver}', 'file.driver=file',
                   f'file.filename={node["file"]["filename"]}'.replace(
                       ',', ',,'),
                   f'file.cache.direct={"on" if self.direct else "off"}']
        return ','.join(options + ([f'disk={disk}'] if 'disk' in node else []))

    def fill(self, disk: str, image: Path) -> None:
        """Copy the contents of a raw IMAGE onto DISK."""
        self.img('convert', '-n', '-f', 'raw', '-t', 'none', image,
                 '--target-image-opts', self.image_opts(disk))

    def read_out(self, disk: str) -> Path:
        """A raw copy of DISK's contents, as any other program sees them."""
        target = self.lab.shared / f'{disk}.out'
        self.img('convert', '-O', 'raw', self.json_name(disk), target)
        return target


# ---- the records of the guest's disk writer ----

def list_records(image: Path) -> list[str]:
    """What "agent list" says about the same contents: "slot seq crc"."""
    out, size = [], image.stat().st_size
    slots = 1 << ((size // BLOCK).bit_length() - 1)
    zero = bytes(BLOCK)
    run = None
    with open(image, 'rb') as f:
        with mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for slot in range(slots):
                block = data[slot * BLOCK:(slot + 1) * BLOCK]
                if block == zero:
                    continue
                magic, seq, its_run, _ = _HEAD.unpack_from(block)
                run = run or its_run
                crc = zlib.crc32(block[:-4])
                if (magic != b'CSVRECRD' or its_run != run
                        or crc != int.from_bytes(block[-4:], 'little')
                        or seq * STRIDE % slots != slot):
                    out.append(f'bad block {slot}')
                else:
                    out.append(f'{slot} {seq} {crc:08x}')
    return out


def slots_of(size: int) -> int:
    return 1 << ((size // BLOCK).bit_length() - 1)


def check_records(listing: list[str], slots: int, first: int,
                  durable: int) -> list[str]:
    """What is wrong with LISTING, given that the guest has been told that the
    records FIRST to DURABLE are on the disk."""
    wrong = [text for text in listing if text.startswith('bad')]
    have = {}
    for text in listing:
        if not text.startswith('bad'):
            slot, seq, _ = text.split()
            have[int(slot)] = int(seq)
    # Records wander over the disk and come round: the last of each block.
    oldest = max(first, durable - slots + 1)
    for seq in range(oldest, durable + 1):
        slot = seq * STRIDE % slots
        if have.get(slot, -1) < seq:
            wrong.append(f'record {seq} was acknowledged, block {slot} holds '
                         f'{have.get(slot, "nothing")}')
    return wrong


def digest(listing: list[str]) -> str:
    return hashlib.sha256('\n'.join(listing).encode()).hexdigest()
