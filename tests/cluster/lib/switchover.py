# SPDX-License-Identifier: GPL-2.0-or-later
"""A migration is held at its switch-over, and something is lost there."""

import time
from dataclasses import asdict, dataclass, field
from typing import Callable

from . import say, storage
from .lab import Host
from .machine import Guest, Machine
from .move import runners, settled
from .proc import until
from .proxy import SHUT, Proxy
from .qmp import QmpGone
from .traffic import Traffic

PATIENCE = 60               # seconds for which anything here is waited for


def stop_before(source: Machine, uri: str, **capabilities: bool) -> None:
    """Migrate up to the point where the guest is stopped and everything but
    the hand-over of the disks and the devices' state has been done."""
    source.migrate(uri, pause_before_switchover=True, **capabilities)
    source.wait_migration('pre-switchover', timeout=PATIENCE)


def hand_over(source: Machine, proxy: Proxy,
              given: Callable[[], bool]) -> None:
    """From there on to the point where the source has GIVEN the disks out of
    hand and sent all it has, and the destination has got none of that."""
    proxy.hold()
    source.qmp.cmd('migrate-continue', state='pre-switchover')
    until('the disks are handed over', given, PATIENCE)
    proxy.wait_quiet(timeout=PATIENCE)


@dataclass
class Loss:
    """What was lost at a switch-over, and what came of it."""
    lost: str
    when: str
    begun: float                # CLOCK_MONOTONIC in seconds
    ended: float
    runs: list[str] = field(default_factory=list)       # hosts that ran it
    owner: str | None = None    # of the disks; None: nothing says
    acknowledged: int = 0       # records, when the guest was heard again
    missing: list[str] | None = None                    # None: not looked at
    note: str = ''
    wrong: list[str] = field(default_factory=list)

    def report(self, traffic: Traffic) -> dict:
        """When the traffic has ended"""
        out = asdict(self)
        begun, ended = out.pop('begun'), out.pop('ended')
        return {**out, 'waited_ms': round(
            traffic.stretch('udp', begun, ended).gap_ms, 1)}


class SwitchOver:
    """The guest at GUEST, with what its disks are, and what may be lost."""

    def __init__(self, guest: Guest, traffic: Traffic, disks: tuple[str, ...],
                 driver: str, size: int, watch: Callable[[Machine], None]):
        """SIZE: of the disk /dev/vda, in bytes. WATCH is called for each
        machine that begins."""
        self.guest, self.traffic, self.disks = guest, traffic, disks
        self.csv, self.size, self.watch = driver == 'csv', size, watch
        # QEMU as released has no return path unless it is told
        self.how = {} if self.csv else {'return_path': True}

    def destination(self, host: Host) -> tuple[Machine, str]:
        source = self.guest.at
        machine = Machine(source.lab, host, source.plan, incoming=True)
        self.watch(machine)
        return machine, machine.listen()

    def volume(self, machine: Machine) -> dict[str, dict]:
        """The disks by name, as MACHINE reads the volume."""
        volume = machine.qmp.cmd('query-csv-volumes')[0]
        return {disk['name']: disk for disk in volume['disks']}

    def given(self, machine: Machine) -> bool:
        if not self.csv:
            return True
        disks = self.volume(machine)
        return all(disks[name]['state'] == 'handover' for name in self.disks)

    def hold(self, host: Host) -> tuple[Machine, Proxy, float]:
        """A destination on HOST to which the last part does not get through;
        since when"""
        source = self.guest.at
        machine, uri = self.destination(host)
        proxy = Proxy(self.guest.client, uri)
        begun = time.monotonic()
        stop_before(source, proxy.uri, **self.how)
        hand_over(source, proxy, lambda: self.given(source))
        return machine, proxy, begun

    def destination_dies(self, host: Host) -> Loss:
        """The source has stopped the guest and given its disks out of hand,
        and then the destination is killed."""
        source = self.guest.at
        machine, proxy, begun = self.hold(host)
        machine.kill()
        proxy.close()
        when = 'the rest is on its way'
        return self.outcome(f'destination {host.name}',
                            f'disks given up, {when}' if self.csv else when,
                            begun, source, source, machine)

    def source_dies(self, host: Host) -> Loss:
        """The source has sent everything, and then it is killed; only after
        that the destination gets what is left."""
        source = self.guest.at
        machine, proxy, begun = self.hold(host)
        source.kill()
        proxy.release()
        return self.outcome(f'source {source.host.name}', 'all sent, nothing '
                            'of that read yet', begun, machine, source,
                            machine)

    def last_word_lost(self, host: Host) -> Loss:
        """The destination runs the guest; its message that says so is lost."""
        source = self.guest.at
        machine, uri = self.destination(host)
        proxy = Proxy(self.guest.client, uri, drop=(SHUT,))
        begun = time.monotonic()
        source.migrate(proxy.uri, **self.how)
        try:
            source.wait_migration('completed', 'failed', timeout=PATIENCE)
        except QmpGone:
            pass                # released QEMU may have died of it by now
        machine.qmp.wait('RESUME', PATIENCE)
        loss = self.outcome("destination's last word", 'the guest runs there '
                            'already', begun, machine, source, machine)
        if proxy.dropped != [SHUT]:
            loss.wrong.append(f'lost were {proxy.dropped}')
        if not source.process.alive():
            last = source.process.output().splitlines()[-1:]
            loss.note = f'QEMU on {source.host.name} ended: {"".join(last)}'
        source.quit()
        return loss

    def outcome(self, lost: str, when: str, begun: float, wanted: Machine,
                *machines: Machine) -> Loss:
        """Who runs the guest, which WANTED must do and no other, and what it
        still has of what it was told."""
        settled(*machines, timeout=PATIENCE)
        until('the guest runs again', lambda: runners(*machines), PATIENCE)
        self.guest.at = wanted
        self.traffic.hear(PATIENCE)
        # what has died since may have run it, too
        running = runners(*machines)
        loss = Loss(lost, when, begun, time.monotonic(), [
            m.host.name for m in machines
            if m in running or m.qmp.find('RESUME', begun)])
        loss.acknowledged = self.traffic.live().durable
        if loss.runs != [wanted.host.name]:
            loss.wrong.append(f'{losses_text(loss.runs)} ran the guest, not '
                              f'{wanted.host.name} alone')
        else:
            wanted.capabilities(pause_before_switchover=False)
            self.check_data(loss)
        if self.csv:
            self.check_owner(loss, wanted)
        return loss

    def check_data(self, loss: Loss) -> None:
        """As the guest reads its disk, past its page cache"""
        listing = self.guest.run('agent list /dev/vda || true')
        loss.missing = storage.check_records(
            listing.splitlines(), storage.slots_of(self.size), 1,
            loss.acknowledged)
        loss.wrong += loss.missing[:3]

    def check_owner(self, loss: Loss, wanted: Machine) -> None:
        disks = self.volume(wanted)
        others = [name for name in self.disks if not wanted.owns(disks[name])]
        loss.wrong += [f'disk {name} is not owned by {wanted.name}'
                       for name in others]
        loss.owner = wanted.host.name if not others else 'another'


def losses_text(hosts: list[str]) -> str:
    return ' and '.join(hosts) or 'none'


def show_losses(acts: list[tuple[str, list[dict]]]) -> None:
    """The table of what each act lost."""
    rows = [['lost at the switch-over', 'when', 'the guest', 'its disks',
             'records', 'records', 'the client'],
            ['', '', 'ran on', 'belong to', 'acknowledged', 'missing',
             'waited']]
    for name, losses in acts:
        for loss in losses:
            alone = len(loss['runs']) == 1
            missing = loss['missing']
            rows.append([
                f'{name}: {loss["lost"]}', loss['when'],
                losses_text(loss['runs']) if alone
                else say.bad(losses_text(loss['runs'])),
                loss['owner'] or '–', f'{loss["acknowledged"]}',
                '–' if missing is None else f'{len(missing)}',
                f'{loss["waited_ms"]:.0f} ms'])
    say.line()
    say.line(say.table(rows, left=4, rule=2))
    say.line()
    say.line(say.faint(
        'The demo holds the stream at the switch-over for about half a second '
        'to strike just there; the client waits for that, too.'))
    for name, losses in acts:
        for loss in losses:
            if loss['note']:
                say.line(say.faint(f'{name}: {loss["lost"]}: {loss["note"]}'))
