# SPDX-License-Identifier: GPL-2.0-or-later
"""A move by the pipeline with a promise that can be kept: QEMU's own plan is
asked for it just before."""

from dataclasses import dataclass, field

from . import say
from .machine import Machine
from .proc import until
from .qmp import QmpError

PATIENCE = 150              # seconds for which its end is waited for; the
                            # pipeline gives up by itself after a minute
SPARE = 1.15                # beyond the smallest that can be kept
ROOM = 1.3                  # beyond a blackout that is expected
MOST = 10000                # milliseconds that are promised at most
ENDS = ('completed', 'failed', 'cancelled')


class GaveUp(Exception):
    """The move did not happen, and the guest runs where it was."""

    def __init__(self, why: str, report: dict):
        super().__init__(why)
        self.report = report


@dataclass
class Promise:
    """How long the guest may stand still, and why just so long."""
    ms: int
    why: str
    costs: list[dict] = field(default_factory=list)


def rounded(ms: float) -> int:
    """Up, to a number that reads well."""
    step = 10 if ms < 500 else 50
    return min(MOST, -int(-ms // step) * step)


def costs_text(costs: list[dict]) -> str:
    """The parts of a blackout that matter, the longest first."""
    costs = sorted(costs, key=lambda c: -c['time'])
    return ', '.join(f'{c["part"]} {c["time"] / 1000:.0f}'
                     for c in costs if c['time'] >= 1000)


def ask(source: Machine, uri: str, wanted: int, least: int = 0) -> Promise:
    """WANTED milliseconds if the plan says that this can be kept, or else the
    smallest promise that it says; not less than LEAST, which an attempt has
    shown to be needed."""
    try:
        plan = source.qmp.cmd('migrate-pipeline-plan', uri=uri,
                              max_blackout=max(wanted, least), timeout=60)
    except QmpError as error:
        return Promise(max(wanted, least), f'the plan says: {error}')
    costs = plan.get('costs', [])
    known = f' ({costs_text(costs)})' if costs_text(costs) else ''
    expected = plan.get('blackout', 0)
    # what this guest, link and hosts need at the least
    floor = plan.get('floor', 0)
    if least > max(wanted, floor):
        return Promise(least, 'as the last attempt has shown', costs)
    if floor > wanted:
        return Promise(rounded(floor * SPARE), f'by the plan {wanted} ms cannot be '
                                               f'kept, {floor} can{known}',
                       costs)
    if not floor and expected > wanted:
        return Promise(rounded(expected * ROOM),
                       f'by the plan {wanted} ms cannot be kept, it expects '
                       f'{expected}{known}', costs)
    if floor or expected:
        return Promise(wanted, 'by the plan that can be kept, ' + (
            f'and {floor} as well' if floor else f'it expects {expected}')
            + known, costs)
    return Promise(wanted, 'the plan says nothing of it', costs)


def needed(report: dict, promise: int) -> int:
    """What to promise after PROMISE could not be kept."""
    blackout = report.get('estimate', {}).get('blackout', 0)
    return rounded(max(blackout * ROOM, promise * 1.5))


def progress(report: dict) -> str:
    """What the pipeline does now, and why."""
    decision = report.get('decision', {})
    estimate = report.get('estimate', {})
    out = report.get('stage', 'none')
    if decision:
        out += f', {decision["action"]}: {decision["reason"]}'
    if 'remaining' in estimate:
        out += f', {estimate["remaining"] / 1e6:.1f} MB left'
    if 'blackout' in estimate:
        out += f', blackout would be {estimate["blackout"]} ms'
    return f'{out} ({report.get("elapsed", 0) / 1000:.0f} s)'


class Promised:
    """How move() moves the guest: by the pipeline. After each attempt that
    was given up, the next one promises what that one would have needed."""

    def __init__(self, wanted: int):
        self.wanted, self.least = wanted, 0
        self.promise = Promise(wanted, '')

    def __call__(self, source: Machine, uri: str) -> str:
        self.promise = ask(source, uri, self.wanted, self.least)
        say.step(f'{source.host.name} promises {self.promise.ms} ms: '
                 f'{self.promise.why}')
        source.capabilities(events=True, pause_before_switchover=False)
        source.qmp.cmd('migrate-pipeline-start', uri=uri,
                       max_blackout=self.promise.ms)
        report: dict = {}

        def ended() -> bool:
            report.clear()
            report.update(source.qmp.cmd('query-migrate-pipeline'))
            say.status(progress(report))
            return report['stage'] in ENDS
        until('the pipeline has moved the guest or given up', ended, PATIENCE,
              0.05, tell=False)
        if report['stage'] != 'completed':
            self.least = needed(report, self.promise.ms)
            if source.status() == 'running':
                raise GaveUp(report.get('error', report['stage']), report)
        return report['stage']
