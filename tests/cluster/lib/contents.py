# SPDX-License-Identifier: GPL-2.0-or-later
"""A file system with known contents, made and checked without mounting."""

import hashlib
import random
import shutil
import subprocess
from pathlib import Path

SUMS = 'SHA256SUMS'


def _tool(*command) -> str:
    path = shutil.which(command[0], path='/usr/sbin:/sbin:/usr/bin:/bin')
    if not path:
        raise RuntimeError(f'no {command[0]}: apt-get install e2fsprogs')
    done = subprocess.run([path, *map(str, command[1:])], check=False,
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True)
    if done.returncode:
        raise RuntimeError(f'{command[0]}: {done.stdout}{done.stderr}')
    return done.stdout


def make(folder: Path, image: Path, size: str, files: int = 60) -> None:
    """An ext4 image of SIZE that holds FILES files and their checksums."""
    chance = random.Random(2008)
    folder.mkdir()
    sums = []
    for number in range(files):
        data = chance.randbytes(chance.randrange(1, 250000))
        name = f'file{number:03}'
        (folder / name).write_bytes(data)
        sums.append(f'{hashlib.sha256(data).hexdigest()}  {name}\n')
    (folder / SUMS).write_text(''.join(sums))
    _tool('mke2fs', '-q', '-t', 'ext4', '-d', folder, image, size)


def check(image: Path, original: Path, out: Path,
          added: dict[str, str]) -> list[str]:
    """What differs between the file system in IMAGE and ORIGINAL plus the
    files ADDED; it must be clean, too."""
    try:
        _tool('e2fsck', '-f', '-n', image)
    except RuntimeError as why:
        return [f'the file system is damaged: {why}']
    out.mkdir()
    _tool('debugfs', '-R', f'rdump / {out}', image)
    wrong = []
    expected = {p.name: p.read_bytes() for p in original.iterdir()}
    expected |= {name: text.encode() for name, text in added.items()}
    found = {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            wrong.append(f'file {name} differs')
    return wrong
