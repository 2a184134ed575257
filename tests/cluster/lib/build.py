# SPDX-License-Identifier: GPL-2.0-or-later
"""What the lab runs: our C programs, the guest's kernel and initramfs.

Everything lands in build/guest; nothing is installed on the machine. Packages
come through apt, so its signatures guard them, and are only unpacked.
"""

import lzma
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

from . import say

CLUSTER = Path(__file__).resolve().parent.parent
TOP = CLUSTER.parent.parent
GUEST = TOP / 'build' / 'guest'

# The guest's drivers; what they depend on is found by itself.
MODULES = ['virtio_pci', 'virtio_blk', 'virtio_net', 'virtio_scsi', 'sd_mod',
           'virtio_console', 'ext4']
FIRMWARE = {'bios-256k.bin': 'seabios', 'linuxboot_dma.bin': 'qemu-system-data',
            'kvmvapic.bin': 'qemu-system-data'}
FIRMWARE_DIRS = ['usr/share/qemu', 'usr/share/seabios']


class CannotBuild(Exception):
    """Something is missing; the text says what and how to get it."""


def _newer(target: Path, sources: list[Path]) -> bool:
    return target.exists() and all(
        target.stat().st_mtime >= s.stat().st_mtime for s in sources)


def _compile(target: Path, source: Path, *flags: str) -> Path:
    if not _newer(target, [source, CLUSTER / 'guest' / 'wire.h']):
        if not shutil.which('cc'):
            raise CannotBuild('no C compiler: apt-get install gcc libc6-dev')
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(['cc', '-O2', '-std=gnu11', '-Wall', '-Wextra',
                        '-Wno-sign-compare', '-Werror', *flags, '-o',
                        str(target), str(source)], check=True)
    return target


def hostinit() -> Path:
    return _compile(GUEST / 'hostinit', CLUSTER / 'host' / 'hostinit.c')


def probe() -> Path:
    return _compile(GUEST / 'probe', CLUSTER / 'host' / 'probe.c')


def agent() -> Path:
    return _compile(GUEST / 'agent', CLUSTER / 'guest' / 'agent.c', '-static')


def lost_path() -> Path:
    # A fortified C library would have the names of its checks instead.
    return _compile(GUEST / 'lost-path.so', CLUSTER / 'host' / 'lost-path.c',
                    '-U_FORTIFY_SOURCE', '-shared', '-fPIC',
                    '-fvisibility=hidden')


def lose_locks() -> Path:
    return _compile(GUEST / 'lose-locks.so', CLUSTER / 'host' / 'lose-locks.c',
                    '-shared', '-fPIC', '-fvisibility=hidden')


def unpack(package: str) -> Path:
    """Unpack a Debian package under build/guest/NAME (once)."""
    root = GUEST / package
    if root.exists():
        return root
    say.step(f'getting the package {package}')
    download = GUEST / 'download'
    shutil.rmtree(download, ignore_errors=True)
    download.mkdir(parents=True)
    got = subprocess.run(['apt-get', '-q', 'download', package], cwd=download,
                         capture_output=True, text=True, check=False)
    debs = list(download.glob('*.deb'))
    if got.returncode or not debs:
        raise CannotBuild(f'cannot download {package} (is there a network, '
                          f'and a list of packages: apt-get update?)\n'
                          f'{got.stderr.strip()}')
    part = GUEST / f'{package}.part'
    shutil.rmtree(part, ignore_errors=True)
    subprocess.run(['dpkg', '-x', str(debs[0]), str(part)], check=True)
    part.rename(root)
    shutil.rmtree(download)
    return root


def _kernel_package() -> str:
    have = sorted(p.name for p in GUEST.glob('linux-image-*')
                  if p.suffix != '.part')
    if have:
        return have[-1]
    meta = subprocess.run(['apt-cache', 'depends', 'linux-image-cloud-amd64'],
                          capture_output=True, text=True, check=False).stdout
    found = re.search(r'Depends: (linux-image-\S+-cloud-amd64)\s', meta)
    if not found:
        raise CannotBuild('apt knows no linux-image-cloud-amd64: '
                          'apt-get update')
    return found[1]


def kernel() -> Path:
    return next((unpack(_kernel_package()) / 'boot').glob('vmlinuz-*'))


def _ordered(files: dict[str, Path], wanted: list[str]) -> dict[str, bytes]:
    """The modules' contents, each after those that it depends on."""
    done: dict[str, bytes] = {}

    def take(name: str) -> None:
        if name in done or name not in files:   # not there: built in
            return
        data = files[name].read_bytes()
        if files[name].suffix == '.xz':
            data = lzma.decompress(data)
        # A soft dependency is not in "depends", crc32c of ext4 for example.
        for key in (rb'depends=', rb'softdep=pre: '):
            for found in re.findall(key + rb'([^\0]*)\0', data):
                for other in re.split(rb'[, ]+', found):
                    take(other.decode().replace('-', '_'))
        done[name] = data

    for name in wanted:
        take(name)
    return done


def _busybox() -> Path:
    for path in (Path('/bin/busybox'), Path('/usr/bin/busybox')):
        if path.exists() and b'.interp' not in path.read_bytes():
            return path
    root = unpack('busybox-static')
    return next(p for p in (root / 'bin/busybox', root / 'usr/bin/busybox')
                if p.exists())


def _cpio(entries: list[tuple[str, int, bytes]]) -> bytes:
    """A "newc" archive, the one that the kernel reads."""
    out = bytearray()
    for number, (name, mode, data) in enumerate(
            [*entries, ('TRAILER!!!', 0, b'')], 1):
        path = name.encode() + b'\0'
        head = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0]
        out += b'070701' + b''.join(b'%08x' % x for x in head) + path
        out += bytes(-len(out) % 4)
        out += data
        out += bytes(-len(out) % 4)
    return bytes(out)


def initramfs() -> Path:
    target, init = GUEST / 'initramfs.cpio', CLUSTER / 'guest' / 'init'
    program, image = agent(), kernel()
    if _newer(target, [init, program, image, Path(__file__)]):
        return target
    modules_root = image.parent.parent / 'lib' / 'modules'
    if not modules_root.exists():
        modules_root = image.parent.parent / 'usr' / 'lib' / 'modules'
    files = {p.name.partition('.')[0].replace('-', '_'): p
             for p in modules_root.rglob('*.ko*')}
    modules = _ordered(files, MODULES)
    folder, script = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755
    entries = [(d, folder, b'') for d in
               ('bin', 'dev', 'lib', 'lib/modules', 'mnt', 'proc', 'run',
                'sys', 'tmp')]
    entries += [('init', script, init.read_bytes()),
                ('bin/busybox', script, _busybox().read_bytes()),
                ('bin/agent', script, program.read_bytes()),
                ('lib/modules/order', stat.S_IFREG | 0o644,
                 ''.join(f'{m}.ko\n' for m in modules).encode())]
    entries += [(f'lib/modules/{name}.ko', stat.S_IFREG | 0o644, data)
                for name, data in modules.items()]
    part = target.with_suffix('.part')
    part.write_bytes(_cpio(entries))
    os.replace(part, target)
    return target


def _libraries(program: Path) -> list[Path]:
    """What PROGRAM is linked with, as this machine has it."""
    out = subprocess.run(['ldd', str(program)], capture_output=True, text=True,
                         check=True).stdout
    missing = re.search(r'(\S+) => not found', out)
    if missing:
        raise CannotBuild(f'{program.name} needs {missing[1]}: '
                          f'apt-get install qemu-guest-agent')
    return [Path(path) for path in re.findall(r'(/\S+) \(', out)]


def initramfs_with_agent() -> Path:
    """The same, with QEMU's guest agent, which init starts then."""
    base = initramfs()
    program = next(unpack('qemu-guest-agent').glob('usr/*bin/qemu-ga'))
    target = GUEST / 'initramfs-agent.cpio'
    if _newer(target, [base, program, Path(__file__)]):
        return target
    files = {'usr/sbin/qemu-ga': program,
             **{str(p).lstrip('/'): p for p in _libraries(program)}}
    folders = {str(d) for name in files for d in Path(name).parents
               if d.name}
    entries = [(d, stat.S_IFDIR | 0o755, b'') for d in sorted(folders)]
    entries += [(name, stat.S_IFREG | 0o755, path.read_bytes())
                for name, path in files.items()]
    part = target.with_suffix('.part')
    # The kernel unpacks one archive after the other.
    part.write_bytes(base.read_bytes() + _cpio(entries))
    os.replace(part, target)
    return target


def firmware_options() -> list[str]:
    """-L options. A QEMU that runs from its build folder does not look in
    /usr/share, so they are needed for installed firmware as well."""
    roots = set()
    for name, package in FIRMWARE.items():
        installed = any((Path('/') / d / name).exists() for d in FIRMWARE_DIRS)
        roots.add(Path('/') if installed else unpack(package))
    return [option for root in sorted(roots) for d in FIRMWARE_DIRS
            if (root / d).exists() for option in ('-L', str(root / d))]
