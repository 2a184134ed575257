# SPDX-License-Identifier: GPL-2.0-or-later
"""Quick migration: a guest goes through the shared storage. QEMU as released
writes its memory to a file with mapped-ram, as fast as that goes by hand."""

import time
from dataclasses import dataclass

from lib import storage
from lib.machine import Guest, Machine, Plan, guest_ports
from lib.move import pipeline
from lib.proc import until
from lib.traffic import Traffic

from .result import Run, summary

SETTLE = 1.5                # seconds that the client watches after a move
DISK = 'root'


@dataclass
class Size:
    """Of the guest in MB; arguments of "agent dirty" that fill it"""
    memory: int
    dirty: str = ''


GUESTS = {'quick-256m': Size(256), 'quick-2g': Size(2048),
          'quick-2g-full': Size(2048, '1700 1 few')}
METHODS = {'mapped-ram': False, 'quick': True}      # with the patched build?


def _prepare(machine: Machine, direct: bool) -> None:
    machine.qmp.cmd('migrate-set-capabilities', capabilities=[
        {'capability': name, 'state': True}
        for name in ('mapped-ram', 'multifd')])
    machine.qmp.cmd('migrate-set-parameters', **{
        'max-bandwidth': 0, 'multifd-channels': 2, 'direct-io': direct})


def _save_by_hand(source: Machine, uri: str) -> None:
    source.qmp.cmd('migrate', uri=uri)
    if source.wait_migration('completed', 'failed') == 'failed':
        raise RuntimeError(f'not saved: {source.migration()}')


def _save(source: Machine) -> None:
    source.qmp.cmd('migrate-pipeline-start', mode='quick')
    until('the guest is saved', lambda: pipeline(source)['stage'] in
          ('completed', 'failed', 'cancelled'), 60, 0.002)
    if pipeline(source)['stage'] != 'completed':
        raise RuntimeError(f'not saved: {pipeline(source)}')


def _move(bench, guest: Guest, store: storage.Storage, patched: bool) -> tuple:
    """Save, move, resume; both QEMUs are there before it begins."""
    source = guest.at
    target = bench.hosts[bench.hosts.index(source.host) ^ 1]
    destination = Machine(bench.lab, target, source.plan, incoming=True)
    uri = f'file:{bench.lab.shared}/state'
    for machine in () if patched else (source, destination):
        _prepare(machine, store.direct)
    started = time.monotonic()
    if patched:
        _save(source)
        destination.qmp.cmd('migrate-pipeline-restore')
    else:
        _save_by_hand(source, uri)
        destination.qmp.cmd('migrate-incoming', uri=uri)
    resumed = destination.qmp.wait('RESUME', 60, started).at
    stopped = source.qmp.wait('STOP', 1, started).at
    if patched:
        until('all memory is there', lambda: pipeline(destination)['stage'] ==
              'completed', 120, 0.02)
    finished = time.monotonic()
    guest.at = destination
    time.sleep(SETTLE)
    if guest.state()['damaged']:
        raise RuntimeError('pages are damaged')
    sent = source.migration()['ram']['transferred']
    source.quit()
    return ((started, finished + SETTLE), (finished - started) * 1000,
            (resumed - stopped) * 1000, sent)


def row(bench, guest_name: str, link: str, name: str) -> dict:
    patched, size = METHODS[name], GUESTS[guest_name]
    folder = bench.args.build if patched else bench.args.pristine
    (bench.lab.shared / 'volume.csv').unlink(missing_ok=True)
    store = storage.Storage(bench.lab, bench.args.build,
                            'csv' if patched else 'raw', '8G')
    store.add(DISK, '64M')
    plan = Plan(folder / 'qemu-system-x86_64', store.nodes(DISK), (DISK,),
                memory=size.memory)
    guest = Guest(bench.client, Machine(bench.lab, bench.hosts[0], plan))
    guest.wait_booted()
    if size.dirty:
        guest.dirty(size.dirty)
    traffic = Traffic(bench.client, [guest_ports(bench.hosts[0], plan)],
                      udp=1000, tcp=200, pings=(1, 100))
    time.sleep(1)
    moves = []
    try:
        for _ in range(bench.args.rounds):
            moves.append(_move(bench, guest, store, patched))
    finally:
        traffic.stop()
        guest.at.quit()
    runs = []
    for window, total, blackout, sent in moves:
        udp = traffic.stretch('udp', *window)
        runs.append(Run(True, total, blackout, udp.gap_ms,
                        traffic.stretch('ping100', *window).lost,
                        traffic.stretch('tcp', *window).gap_ms, sent, None))
    return summary(guest_name, link, name, runs, plan.memory << 20)
