# SPDX-License-Identifier: GPL-2.0-or-later
"""A small guest without a program: two disks, and memory that nobody writes.

It is there to be moved while something fails, again and again, so it starts
fast; what must be true of it afterwards is looked at from outside.
"""

import hashlib
import json
import random
import re
import subprocess
from pathlib import Path

from . import build, storage
from .lab import Lab
from .lostpath import FAIL, PASS, LostPath
from .qmp import Qmp, QmpError, QmpGone

MIB = 1 << 20
RAM = 24 * MIB
FILLED = 8 * MIB                # of it, from the second megabyte on
DISKS = ('d0', 'd1')
STATE = f'{DISKS[0]}.state'


class Vm:
    """A process with the disks, and with a path to them that may be lost"""
    count = 0

    def __init__(self, lab: Lab, store: storage.Storage, qemu: Path,
                 memory: str, incoming: str | None):
        Vm.count += 1
        self.name = f'vm{Vm.count}'
        self.socket = lab.sockets / f'{self.name}.mig'
        qmp = lab.sockets / f'{self.name}.qmp'
        self.out = lab.work / f'{self.name}.ram'
        self.path = LostPath(store.path, lab.work / f'{self.name}.path')
        command = ['env', *self.path.environment, qemu, '-accel', 'qtest',
                   '-machine', 'q35,memory-backend=m', '-object',
                   f'{memory},id=m,size={RAM}', '-nodefaults', '-m',
                   f'{RAM >> 20}', '-display', 'none', *build.
                   firmware_options(), '-qmp', f'unix:{qmp},server=on,wait=off']
        for node in store.nodes(*DISKS):
            if node['driver'] == 'file':
                node['aio'] = 'threads'     # what LostPath knows
            command += ['-blockdev', json.dumps(node)]
        for disk in DISKS:
            command += ['-device', f'virtio-blk-pci,drive={disk},id=v{disk}']
        if incoming:
            command += ['-incoming', incoming.format(self.socket)]
        self.process = lab.hosts[0].popen(self.name, *command)
        self.qmp = Qmp(qmp, self.process.alive)
        self.pid = self.process.pid_inside()

    def status(self) -> str:
        try:
            return self.qmp.cmd('query-status')['status']
        except QmpGone:
            return 'dead'

    def dead(self) -> bool:
        return self.status() == 'dead' and not self.process.alive()

    def io(self, disk: str, command: str) -> None:
        """As the guest would; whether it did is to be read from outside."""
        device = f'/machine/peripheral/v{disk}/virtio-backend'
        out = self.qmp.cmd('human-monitor-command',
                           command_line=f'qemu-io -d {device} "{command}"')
        if out.strip():
            raise RuntimeError(f'{self.name}: {command} of {disk}: {out}')

    def records(self) -> dict[str, dict]:
        """What the volume says of its disks"""
        volume = self.qmp.cmd('query-csv-volumes', node_name='volume')[0]
        return {d['name']: d for d in volume['disks']}

    def owners(self) -> str:
        """For people"""
        return f'(pid {self.pid})' + ', '.join(
            f'{name}: {d["state"]}, pid {d.get("owner", {}).get("pid")}, '
            f'epoch {d["epoch"]}' for name, d in self.records().items())

    def owned(self) -> set[str]:
        return {name for name, d in self.records().items() if name in DISKS
                and d['state'] == 'owned'
                and d.get('owner', {}).get('pid') == self.pid}

    def memory(self) -> str:
        """A digest of what has been filled."""
        self.qmp.cmd('pmemsave', val=MIB, size=FILLED, filename=str(self.out))
        digest = hashlib.sha256(self.out.read_bytes()).hexdigest()
        self.out.unlink()
        return digest

    def cont(self) -> str:
        """Try to make it run; why it does not, or nothing."""
        try:
            self.qmp.cmd('cont')
        except (QmpError, QmpGone) as why:
            return str(why)
        return '' if self.status() == 'running' else self.status()

    def end(self) -> None:
        try:
            if self.process.alive():
                self.qmp.cmd('quit')
            self.process.wait(10)
        except (QmpGone, OSError):
            self.process.kill()
        except subprocess.TimeoutExpired as why:
            raise RuntimeError(f'{self.name} does not end after "quit": '
                               f'{self.said()}') from why

    def said(self) -> str:
        owners = ', '.join(f'{e.data["disk"]} {e.data["reason"]}'
                           for e in self.qmp.events
                           if e.name == 'CSV_DISK_OWNERSHIP')
        return f'{self.name}: {owners}: {self.process.output()[-400:]}'


class Small:
    """The guest: its volume, its memory, what it wrote last, who runs it"""

    def __init__(self, lab: Lab, tools: Path, seed: int):
        self.lab, self.qemu = lab, tools / 'qemu-system-x86_64'
        lab.host('host')
        self.store = storage.Storage(lab, tools, 'csv', '256M')
        for disk in DISKS:
            self.store.add(disk, '16M')
        data = random.Random(seed).randbytes(FILLED)
        self.ram = lab.shared / 'ram'
        with open(self.ram, 'wb') as f:
            f.truncate(RAM)
            f.seek(MIB)
            f.write(data)
        self.digest = hashlib.sha256(data).hexdigest()
        self.written = 0        # the pattern on each disk; 0: none
        self.source = self.boot()
        self.check_path()

    def check_path(self) -> None:
        """A path that is lost is lost: else nothing here means anything."""
        self.source.path.set(FAIL)
        try:
            self.source.records()
        except QmpError:
            return
        finally:
            self.source.path.set(PASS)
        raise RuntimeError('the path to the volume cannot be lost')

    def boot(self) -> Vm:
        """The guest starts anew, with the same memory."""
        return Vm(self.lab, self.store, self.qemu,
                  f'memory-backend-file,share=off,mem-path={self.ram}', None)

    def incoming(self, uri: str = 'unix:{}') -> Vm:
        """One that waits for the guest, and knows nothing of its memory"""
        return Vm(self.lab, self.store, self.qemu, 'memory-backend-ram', uri)

    def write(self, vm: Vm) -> None:
        """Acknowledged, on each disk, by the guest's owner"""
        self.written = self.written % 255 + 1
        for disk in DISKS:
            vm.io(disk, f'write -q -P {self.written} {self.place()}')
            vm.io(disk, 'flush')
        self.check_disks()

    def place(self) -> str:
        """Another one each time, so that the disk's map changes"""
        return f'{64 * (self.written % 200)}k 64k'

    def check_disks(self) -> None:
        """What was acknowledged is there, as any other process sees it."""
        for disk in DISKS:
            out = self.store.tool(
                'qemu-io', '-r', '-c',
                f'read -q -P {self.written} {self.place()}',
                '--image-opts', self.store.image_opts(disk))
            if 'failed' in out:
                raise RuntimeError(f'{disk}: {out}')

    def state_token(self) -> bytes | None:
        """That in the header of the saved state, if that is complete"""
        try:
            out = self.store.tool('qemu-io', '-r', '-c', 'read -v 0 512',
                                  '--image-opts',
                                  self.store.image_opts(STATE))
        except RuntimeError:
            return None
        header = bytes(int(byte, 16) for line in re.findall(
            r'^[0-9a-f]{8}:  ((?:[0-9a-f]{2} )+)', out, re.M)
            for byte in line.split())
        complete = header[:8] == b'QPSTATE\0' and not any(header[8:16])
        return header[64:80] if complete else None

    def winner(self, vms: list[Vm]) -> Vm | None:
        """The one of VMS that runs; raises if what must be true is not."""
        running = [vm for vm in vms if vm.status() == 'running']
        if len(running) > 1:
            raise RuntimeError(f'{len(running)} run')
        if not running:
            return None
        vm = running[0]
        if vm.owned() != set(DISKS):
            raise RuntimeError(f'{vm.name} runs, and the records say '
                               f'{vm.owners()}\n{vm.said()}')
        self.check_disks()
        if vm.memory() != self.digest:
            raise RuntimeError(f'the memory of {vm.name} is not the same')
        self.losers_stay(vm, vms)
        # It can write, and the next check sees that.
        self.write(vm)
        return vm

    @staticmethod
    def losers_stay(winner: Vm, vms: list[Vm]) -> None:
        """The others cannot be made to run."""
        for vm in vms:
            if vm is winner or vm.status() in ('dead', 'inmigrate'):
                continue
            vm.cont()
            if vm.status() == 'running':
                raise RuntimeError(f'{vm.name} runs after "cont"')

    def none_runs(self, vms: list[Vm]) -> RuntimeError:
        return RuntimeError('\n'.join(
            [f'none runs: {[vm.status() for vm in vms]}',
             *[vm.said() for vm in vms]]))
