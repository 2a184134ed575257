# SPDX-License-Identifier: GPL-2.0-or-later
"""One live migration, with everything that its own counters say."""

import time
from dataclasses import dataclass

from .lab import Host
from .machine import Guest, Machine
from .owners import Owners
from .proc import until
from .promise import GaveUp
from .qmp import QmpError, QmpGone


@dataclass
class Move:
    source: str
    target: str
    started: float              # CLOCK_MONOTONIC in seconds
    stopped: float              # the source stopped the guest
    resumed: float              # the destination started it
    ended: float
    downtime_ms: int
    total_ms: int
    bytes: int
    guest_gap_ms: float | None  # None: the guest did not say
    write_gap_ms: float | None
    machine: Machine            # where the guest is now
    report: dict                # what the source's pipeline says
    arrival: dict               # and the destination's; {}: QEMU has none


def pipeline(machine: Machine) -> dict:
    """What MACHINE's pipeline says; {} if it has none."""
    try:
        return machine.qmp.cmd('query-migrate-pipeline')
    except QmpError:
        return {}


def plainly(source: Machine, uri: str) -> str:
    """By migrate, with its defaults. How it ended"""
    source.migrate(uri)
    return source.wait_migration('completed', 'failed', 'cancelled')


def move(guest: Guest, target: Host, settle: float = 0,
         owners: Owners | None = None, how=plainly) -> Move:
    """Migrate GUEST to TARGET; wait SETTLE seconds; end the source. What HOW
    raises when the guest did not move is raised when the destination has
    ended."""
    source = guest.at
    destination = Machine(source.lab, target, source.plan, incoming=True)
    if owners:
        owners.watch(destination)
    uri = destination.listen()
    try:
        guest.run('agent reset')
    except OSError:
        pass
    started = time.monotonic()
    try:
        end = how(source, uri)
    except GaveUp:
        destination.quit()
        raise
    if end != 'completed':
        raise RuntimeError(f'the migration {end}: '
                           f'{source.migration().get("error-desc", "")}\n'
                           f'source: {source.process.output()}\n'
                           f'destination: {destination.process.output()}')
    resumed = destination.qmp.wait('RESUME', 30, started).at
    ended = time.monotonic()
    stopped = source.qmp.wait('STOP', 1, started).at
    info = source.migration()
    guest.at = destination
    time.sleep(settle)
    try:
        state = guest.state()
    except (OSError, RuntimeError):
        state = {}
    result = Move(
        source.host.name, target.name, started, stopped, resumed, ended,
        info.get('downtime', 0), info.get('total-time', 0),
        info.get('ram', {}).get('transferred', 0),
        state.get('gap_ns') and state['gap_ns'] / 1e6,
        state.get('write_ns') and state['write_ns'] / 1e6, destination,
        pipeline(source), pipeline(destination))
    source.quit()
    return result


def runners(*machines: Machine) -> list[Machine]:
    """Those whose guest runs."""
    return [m for m in machines if m.process.alive()
            and m.status() == 'running']


def settled(*machines: Machine, timeout: float = 20) -> None:
    """Wait until no machine is on its way to another state."""
    def quiet() -> bool:
        for m in machines:
            if not m.process.alive():
                continue
            try:
                if m.status() in ('finish-migrate', 'inmigrate', 'dead'):
                    return False
                if m.migration().get('status') in (
                        'setup', 'active', 'device', 'cancelling',
                        'pre-switchover'):
                    return False
            except QmpGone:
                return False
        return True
    until('the machines are at rest', quiet, timeout)
