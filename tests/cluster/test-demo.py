#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo tells its story while other processes keep both CPUs busy."""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lib import build, case, say                # noqa: E402
from lib.lab import end_by_signals              # noqa: E402
from lib.proc import Process                    # noqa: E402

BUSY = 2                    # processes beside it
LIMIT = 600                 # seconds
WANTED = 100                # ms that the demo promises if it can


class Demo:
    """One run of it, and what it left."""

    def __init__(self, tools: Path, out: Path):
        hostinit = build.hostinit()
        busy = [Process(hostinit, ['guard'],
                        ['sh', '-c', 'while :; do :; done'],
                        out / f'busy-{n}.log') for n in range(BUSY)]
        run = Process(hostinit, ['guard'], [
            str(build.CLUSTER / 'demo'), '--build', str(tools), '--alone',
            '--out', str(out)], out / 'demo.log')
        try:
            self.status = run.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.status = None
        for process in [run, *busy]:
            process.close()
        self.left = [p.command for p in [run, *busy] if p.remains()]
        self.shown = run.output()
        path = out / 'report.json'
        self.report = json.loads(path.read_text()) if path.exists() else {}


def ends_well(demo: Demo) -> None:
    """It ends well, and nothing is left of it"""
    assert demo.status == 0, f'exit status {demo.status}'
    assert not demo.left, f'left: {demo.left}'
    for what in ('guest', 'disk', 'owner', 'alone'):
        assert demo.report[f'{what}_ok'], demo.report['wrong']


def one_runs(demo: Demo) -> None:
    """Whatever is lost at a switch-over, one side runs the guest"""
    losses = demo.report['losses']
    assert [loss['runs'] for loss in losses] == [
        ['host-A'], ['host-B'], ['host-A']], losses
    for loss in losses:
        assert loss['owner'] == loss['runs'][0], loss
        assert loss['acknowledged'] > 0 and loss['missing'] == [], loss
        assert loss['lost'] in demo.shown, loss


def promises(demo: Demo) -> None:
    """Each move has a promise and a reason for it, and what came of it"""
    moves = demo.report['moves']
    assert [m['to'] for m in moves] == ['host-B', 'host-A'], moves
    for m in moves:
        promise = m['promise']
        assert promise['ms'] >= WANTED and promise['why'], promise
        asked = m['source_report']['promise']['max-blackout']
        assert asked == promise['ms'], f'{asked} was asked for'
        took = m['source_report']['blackout']['total'] / 1000
        assert m['kept'] == (took <= promise['ms']), (took, promise)
        assert f'promised {promise["ms"]} ms: {promise["why"]}' in demo.shown


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--build', type=Path,
                        default=build.TOP / 'build' / 'qemu',
                        help="QEMU's build folder (default: build/qemu)")
    tools = parser.parse_args().build.resolve()
    say.configure('# ')
    try:
        build.hostinit()
        build.initramfs()
    except build.CannotBuild as why:
        print(f'1..0 # SKIP {str(why).splitlines()[0]}')
        return case.SKIP
    end_by_signals()
    base = build.TOP / 'build' / 'cluster'
    base.mkdir(parents=True, exist_ok=True)
    out = Path(tempfile.mkdtemp(prefix='demo-', dir=base))
    try:
        demo = Demo(tools, out)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    checks = (ends_well, one_runs, promises)
    print(f'1..{len(checks)}')
    failed = 0
    for n, check in enumerate(checks, 1):
        try:
            check(demo)
            print(f'ok {n} - {check.__doc__}')
        except (AssertionError, LookupError) as why:
            failed += 1
            say.line(f'{type(why).__name__}: {why}'[:2000])
            print(f'not ok {n} - {check.__doc__}')
    if failed:
        say.line(demo.shown)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
