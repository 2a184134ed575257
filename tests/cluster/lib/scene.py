# SPDX-License-Identifier: GPL-2.0-or-later
"""What every cluster test starts from and what must be true after each of
its scenarios: a guest on a csv disk, a client that hears from it, and a
witness that reads the volume without taking part."""

import dataclasses
import json
import random
from pathlib import Path

from . import accel, say, storage, switchover
from .lab import Host, Lab
from .machine import Guest, Machine, Plan, guest_ports
from .move import runners, settled
from .owners import Owners
from .proc import until
from .proxy import Proxy
from .qmp import Qmp
from .traffic import Traffic

SIZE = 64 << 20
DISKS = ('data', 'more')


class Wrong(Exception):
    """What must be true is not."""


def must(condition, what: str) -> None:
    if not condition:
        raise Wrong(what)


class Witness:
    """A third process that asks the volume's records; it has no disk open."""

    def __init__(self, lab: Lab, host: Host, tools: Path,
                 store: storage.Storage):
        path = lab.sockets / 'witness.qmp'
        node = {'driver': 'file', 'node-name': 'volume', 'read-only': True,
                'filename': str(store.path),
                'cache': {'direct': store.direct}}
        fence = {**node, 'node-name': 'fence', 'read-only': False}
        self.name = 'witness'
        self.process = host.popen(
            'witness', tools / 'storage-daemon' / 'qemu-storage-daemon',
            '--blockdev', json.dumps(node), '--blockdev', json.dumps(fence),
            '--chardev', f'socket,id=qmp,path={path},server=on,wait=off',
            '--monitor', 'chardev=qmp')
        self.qmp = Qmp(path, self.process.alive)

    def volume(self) -> dict:
        return self.qmp.cmd('query-csv-volumes', node_name='volume')[0]

    def disk(self, name: str) -> dict:
        return next(d for d in self.volume()['disks'] if d['name'] == name)

    def evict(self, host: str, pid: int | None = None) -> None:
        """HOST, or its process PID, is known to be dead: declare its members
        dead, as a fencing agent does."""
        evicted = [member for member in self.volume()['members']
                   if member['host'] == host and pid in (None, member['pid'])
                   and member['liveness'] != 'dead']
        for member in evicted:
            self.qmp.cmd('csv-member-evict', volume='fence',
                         member=member['id'],
                         incarnation=member['incarnation'])
        must(evicted, f'{host}, pid {pid}, is a member')


class Scene:
    """Hosts A and B, a client and a witness; a guest that runs on A."""

    def __init__(self, lab: Lab, tools: Path, **plan):
        self.lab, self.tools = lab, tools
        self.store = storage.Storage(lab, tools, 'csv', '1G')
        for disk in DISKS:
            self.store.add(disk, str(SIZE))
        self.a = lab.host('host-A', '10.77.0.1/24')
        self.b = lab.host('host-B', '10.77.0.2/24')
        self.client = lab.host('client', '10.77.0.100/24')
        self.witness = Witness(lab, lab.host('witness'), tools, self.store)
        qemu = tools / 'qemu-system-x86_64'
        self.plan = Plan(qemu, self.store.nodes(*DISKS), DISKS, memory=128,
                         accel='kvm' if accel.kvm_works(qemu) else 'tcg',
                         **plan)
        self.run_id = random.getrandbits(63)
        self.owners = Owners(0.05)
        self.owners.watch_witness(self.witness)
        self.guest = Guest(self.client, self.machine(self.a))
        self.guest.wait_booted()
        self.guest.write('vda', 100, self.run_id, 1)
        self.traffic = Traffic(self.client, [guest_ports(self.a, self.plan)],
                               udp=200, tcp=0, pings=())

    def machine(self, host: Host, plan: Plan | None = None,
                **how) -> Machine:
        machine = Machine(self.lab, host, plan or self.plan, **how)
        self.owners.watch(machine)
        return machine

    def volume_for_each_disk(self) -> Plan:
        """A plan in which each disk opens the volume for itself, so that the
        process is a member of the volume several times."""
        return dataclasses.replace(
            self.plan, nodes=[self.store.node(disk) for disk in DISKS])

    def other(self) -> Host:
        return self.b if self.guest.at.host is self.a else self.a

    def incoming(self, host: Host | None = None,
                 **how) -> tuple[Machine, str]:
        """A destination on HOST or the other one, and where it listens."""
        machine = self.machine(host or self.other(), incoming=True, **how)
        return machine, machine.listen()

    def proxy(self, uri: str, **how) -> Proxy:
        return Proxy(self.client, uri, **how)

    def slow(self, source: Machine, uri: str) -> None:
        """Migrate so slowly that it stays in the middle; return there."""
        source.qmp.cmd('migrate-set-parameters', max_bandwidth=2 << 20)
        source.migrate(uri)
        until('the migration is in the middle', lambda: source.migration().get(
            'ram', {}).get('transferred', 0) > 2 << 20, 20)
        must(source.migration()['status'] == 'active', 'it is still active')

    def full_speed(self, source: Machine) -> None:
        source.qmp.cmd('migrate-set-parameters', max_bandwidth=128 << 20)

    def stop_before_switchover(self, source: Machine, uri: str) -> None:
        """Migrate up to the point where the guest is stopped and everything
        but the hand-over of the disks and the devices' state has been done.
        """
        switchover.stop_before(source, uri)

    def disk_is(self, name: str, state: str) -> None:
        until(f'disk {name} is {state}',
              lambda: self.witness.disk(name)['state'] == state, 20)

    def hand_over(self, source: Machine, proxy: Proxy) -> None:
        """From there on to the point where the source has let the disks go
        and sent all it has, and the destination has got none of that."""
        switchover.hand_over(source, proxy, lambda: all(
            self.witness.disk(d)['state'] == 'handover' for d in DISKS))

    def fence(self, machine: Machine) -> None:
        """MACHINE was killed. Another host cannot see that: until it is told
        so, by whoever makes sure of it, it opens none of its disks."""
        must(not machine.process.alive(), f'{machine.name} is dead')
        self.witness.evict(machine.host.name, machine.pid_inside)

    # ---- what must be true ----

    def acknowledged(self) -> int:
        return self.traffic.live().durable

    def hears(self, timeout: float = 10) -> None:
        """The client hears from the guest, and the guest's clock ticks."""
        self.traffic.hear(timeout)

    def owned_by(self, machine: Machine) -> None:
        for name in DISKS:
            disk = self.witness.disk(name)
            owner = disk.get('owner', {})
            must(disk['state'] == 'owned'
                 and owner.get('host') == machine.host.name
                 and owner.get('pid') == machine.pid_inside
                 and owner.get('liveness') == 'alive',
                 f'{name} is not owned by {machine.name}: {disk}')

    def runs_only(self, runner: Machine, *others: Machine) -> None:
        """After whatever happened: exactly one side runs the guest, that
        side owns its disks, and nothing acknowledged is missing."""
        settled(runner, *others)
        running = runners(runner, *others)
        must(running == [runner], f'{[m.name for m in running]} run, not '
                                  f'{runner.name}')
        self.guest.at = runner
        self.owned_by(runner)
        self.hears()
        self.check_data()

    def runs_nowhere(self, *machines: Machine) -> None:
        running = runners(*machines)
        must(not running, f'{[m.name for m in running]} run')

    def check_data(self) -> None:
        """All that the guest has acknowledged is there, read by the guest
        past its page cache."""
        durable = self.acknowledged()
        listing = self.guest.run('agent list /dev/vda || true').splitlines()
        self._compare(listing, durable)
        state = self.guest.state()
        must(not state['write_errno'], f'a write failed: {state}')
        must(not state['damaged'], f'memory is damaged: {state}')

    @staticmethod
    def _compare(listing: list[str], durable: int) -> None:
        wrong = storage.check_records(listing, storage.slots_of(SIZE), 1,
                                      durable)
        must(not wrong, f'{len(wrong)} records are wrong: {wrong[:3]}')

    def reboot(self, host: Host) -> None:
        """Start the guest anew, the way fail-over does, and go on writing
        where the disk says it ended."""
        self.guest.at = self.machine(host)
        self.guest.wait_booted()
        durable = self.acknowledged()
        listing = self.guest.run('agent list /dev/vda || true').splitlines()
        self._compare(listing, durable)
        last = max(int(text.split()[1]) for text in listing)
        self.guest.write('vda', 100, self.run_id, last + 1)

    def finish(self) -> None:
        """Shut down and look at the disk from outside."""
        state = json.loads(self.guest.run('agent stop'))
        self.traffic.stop()
        self.guest.at.quit()
        for name in DISKS:
            must(self.witness.disk(name)['state'] == 'free',
                 f'{name} is not free after a clean end')
        self.owners.stop()
        self._compare(storage.list_records(self.store.read_out('data')),
                      state['durable'])
        wrong = self.owners.check()
        must(not wrong, f'ownership: {wrong[:3]}')
        epochs = self.owners.epochs('data')
        say.note(f'{state["durable"]} records, epochs {epochs[0]} to '
                 f'{epochs[-1]}, who owns what was asked '
                 f'{len(self.owners.samples)} times')
