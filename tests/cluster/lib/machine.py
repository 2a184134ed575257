# SPDX-License-Identifier: GPL-2.0-or-later
"""One QEMU process on one host, and the guest that may run in it."""

import json
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import build
from .lab import Host, Lab
from .proc import until
from .qmp import Qmp, QmpError, QmpGone

UDP, TCP, COMMAND = 7001, 7002, 7003    # guest/wire.h


@dataclass
class Plan:
    """What makes two QEMU processes two places of the same guest."""
    qemu: Path
    nodes: list[dict]                   # what -blockdev opens
    disks: tuple[str, ...]              # those that the guest sees, in order
    accel: str = 'tcg'
    memory: int = 256
    address: str = '10.77.0.50/24'
    mac: str = '52:54:00:12:34:56'
    name: str = 'guest'
    shared: bool = False                # others may write to the disks
    hotplug: bool = False               # there are places for more disks
    agent: bool = False                 # QEMU's guest agent runs in the guest
    options: tuple[str, ...] = ()       # what else QEMU is told
    firmware: list[str] = field(default_factory=build.firmware_options)


def _free_port(kind: int) -> int:
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


Ports = dict[int, tuple[str, int]]


def guest_ports(host: Host, plan: Plan) -> Ports:
    """Where a client finds the guest's services while it runs on HOST."""
    if host.lab.namespaces:
        ip = plan.address.partition('/')[0]
        return {port: (ip, port) for port in (UDP, TCP, COMMAND)}
    if not host.forwarded:
        for port in (UDP, TCP, COMMAND):
            kind = socket.SOCK_DGRAM if port == UDP else socket.SOCK_STREAM
            host.forwarded[port] = ('127.0.0.1', _free_port(kind))
    return host.forwarded


class Machine:
    count = 0

    def __init__(self, lab: Lab, host: Host, plan: Plan, *,
                 incoming: bool = False, paused: bool = False):
        Machine.count += 1
        self.lab, self.host, self.plan = lab, host, plan
        self.name = f'{host.name}-{Machine.count}'
        self.serial = lab.logs / f'{self.name}.serial'
        self._qmp_path = lab.sockets / f'{self.name}.qmp'
        self.agent_path = lab.sockets / f'{self.name}.qga'
        self.ports = guest_ports(host, plan)
        self.process = host.popen(self.name, *self._command(incoming, paused))
        try:
            self.qmp = Qmp(self._qmp_path, self.process.alive)
        except QmpGone as why:
            raise RuntimeError(f'QEMU on {host.name} did not start:\n'
                               f'{self.process.output()}') from why
        self.pid_inside = self.process.pid_inside()

    def _command(self, incoming: bool, paused: bool) -> list[str]:
        plan = self.plan
        command = [
            str(plan.qemu), '-name', plan.name, '-msg', 'timestamp=on',
            '-machine', 'q35' + ',disk-hotplug=on' * plan.hotplug,
            '-accel', plan.accel, '-cpu',
            'host' if plan.accel == 'kvm' else 'max', '-m', str(plan.memory),
            '-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none',
            *plan.firmware, '-serial', f'file:{self.serial}',
            '-qmp', f'unix:{self._qmp_path},server=on,wait=off',
            '-kernel', str(build.kernel()), '-initrd', str(
                build.initramfs_with_agent() if plan.agent else
                build.initramfs()),
            '-append', self._kernel_line(), *self._network()]
        for node in plan.nodes:
            command += ['-blockdev', json.dumps(node)]
        for disk in plan.disks:
            command += ['-device', f'virtio-blk-pci,drive={disk},'
                                   f'serial={disk}'
                                   + (',share-rw=on' if plan.shared else '')]
        if plan.hotplug:
            command += ['-device', 'pcie-root-port,id=slot1,chassis=1']
        if plan.agent:
            command += ['-chardev', 'socket,id=qga,server=on,wait=off,'
                        f'path={self.agent_path}',
                        '-device', 'virtio-serial-pci',
                        '-device', 'virtserialport,chardev=qga,'
                                   'name=org.qemu.guest_agent.0']
        command += plan.options
        if incoming:
            command += ['-incoming', 'defer']
        if paused:
            command += ['-S']
        return command

    def _kernel_line(self) -> str:
        line = 'console=ttyS0 quiet panic=-1'
        if self.lab.namespaces:
            line += f' guest.address={self.plan.address}'
        return line

    def _network(self) -> list[str]:
        device = f'virtio-net-pci,netdev=net0,mac={self.plan.mac},romfile='
        if self.lab.namespaces:
            tap = f'tap-{self.plan.name}'[:15]
            self.lab.tap(self.host, tap)
            netdev = f'tap,id=net0,ifname={tap},script=no,downscript=no'
        else:
            netdev = 'user,id=net0'
            for port, (ip, forwarded) in self.ports.items():
                kind = 'udp' if port == UDP else 'tcp'
                netdev += f',hostfwd={kind}:{ip}:{forwarded}-:{port}'
        return ['-netdev', netdev, '-device', device]

    # ---- state ----

    def status(self) -> str:
        """The run state as QEMU says it, or "dead"."""
        try:
            return self.qmp.cmd('query-status')['status']
        except QmpGone:
            return 'dead'

    def owns(self, disk: dict) -> bool:
        """Does this process own the DISK of a query-csv-volumes?"""
        owner = disk.get('owner')
        return (disk['state'] == 'owned' and owner is not None
                and bool(disk['node-names'])
                and owner['pid'] == self.pid_inside
                and (not self.lab.namespaces
                     or owner['host'] == self.host.name))

    def migration(self) -> dict:
        return self.qmp.cmd('query-migrate')

    def wait_booted(self, timeout: float = 90) -> None:
        def ready() -> bool:
            if not self.process.alive():
                raise RuntimeError(f'QEMU ended: {self.process.output()}')
            return (self.serial.exists()
                    and b'GUEST READY' in self.serial.read_bytes())
        until('the guest has booted', ready, timeout, 0.05)

    # ---- migration ----

    def listen(self) -> str:
        """Start to wait for a guest; returns the address to migrate to."""
        self.capabilities(events=True)
        if self.lab.namespaces:
            uri = f'tcp:{self.host.address}:4444'
        else:
            uri = f'unix:{self.lab.sockets}/{self.name}.mig'
        self.qmp.cmd('migrate-incoming', uri=uri)
        return uri

    def migrate(self, uri: str, **capabilities: bool) -> None:
        wanted = {'events': True, 'pause_before_switchover': False,
                  **capabilities}
        self.capabilities(**wanted)
        self.qmp.cmd('migrate', uri=uri)

    def capabilities(self, **wanted: bool) -> None:
        self.qmp.cmd('migrate-set-capabilities', capabilities=[
            {'capability': name.replace('_', '-'), 'state': state}
            for name, state in wanted.items()])

    def wait_migration(self, *ends: str, timeout: float = 60) -> str:
        """Wait until the migration's status is one of ENDS."""
        last = ['']

        def ended() -> bool:
            last[0] = self.migration().get('status', 'none')
            return last[0] in ends
        try:
            until(f'migration is {" or ".join(ends)}', ended, timeout, 0.005)
        except Exception as why:
            raise RuntimeError(f'{why} (it is {last[0]}: '
                               f'{self.migration()})') from why
        return last[0]

    # ---- end ----

    def quit(self, timeout: float = 60) -> None:
        try:
            self.qmp.cmd('quit')
        except (QmpGone, QmpError):
            pass
        self.process.wait(timeout)
        self.qmp.close()

    def kill(self) -> None:
        self.process.kill()


class Guest:
    """The guest wherever it runs, as its client reaches it."""

    def __init__(self, client: Host, machine: Machine):
        self.client, self.at = client, machine

    def run(self, line: str, timeout: float = 90) -> str:
        """Run a shell command in the guest, give its output."""
        with self.client.socket() as s:
            s.settimeout(timeout)
            s.connect(self.at.ports[COMMAND])
            s.sendall(line.encode() + b'\n')
            out = bytearray()
            while chunk := s.recv(65536):
                out += chunk
        text, mark, code = out.decode().rpartition('rc=')
        if not mark or int(code):
            raise RuntimeError(f'in the guest: {line}: {text.strip()} '
                               f'(exit code {code.strip() or "unknown"})')
        return text

    def wait_booted(self, timeout: float = 90) -> None:
        """Wait until the guest is up and can be reached."""
        self.at.wait_booted(timeout)
        if not self.alive(timeout / 4):
            raise RuntimeError('the guest cannot be reached')

    def state(self) -> dict:
        return json.loads(self.run('agent state'))

    def write(self, disk: str, rate: float, run: int, first: int) -> None:
        """Start the disk writer, RATE records a second."""
        self.run(f'agent write /dev/{disk} {rate} {run} {first}')
        until('the guest writes',
              lambda: self.state()['durable'] >= first + 2, 60, 0.1)

    def dirty(self, arguments: str) -> None:
        """Start to dirty memory, which is filled first: see "agent dirty"."""
        self.run(f'agent dirty {arguments}')
        until('the guest dirties its memory',
              lambda: self.state()['dirtying'], 120, 0.1)

    def alive(self, timeout: float = 5) -> bool:
        """Does the guest answer, and does its clock tick?"""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                first = json.loads(self.run('agent state', 2))['tick']
                time.sleep(0.05)
                if json.loads(self.run('agent state', 2))['tick'] > first:
                    return True
            except (OSError, RuntimeError, ValueError):
                time.sleep(0.05)
        return False
