# SPDX-License-Identifier: GPL-2.0-or-later
"""The frame of a test program: options, TAP, time-out, skip, clean-up."""

import argparse
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Callable

from . import build, say
from .lab import Lab, can_make_hosts, end_by_signals, use_user_namespace
from .proc import Unfinished

SKIP = 77


class TimedOut(BaseException):
    """The whole program took too long."""


def main(doc: str, begin: Callable, scenarios: list[Callable],
         timeout: int, initramfs: Callable = build.initramfs) -> int:
    """Run the SCENARIOS, each called with what BEGIN(lab, tools) returned.

    They share that, so the first failure ends the program. The name of a
    scenario is the first line of its documentation.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument('--build', type=Path,
                        default=build.TOP / 'build' / 'qemu',
                        help="QEMU's build folder (default: build/qemu)")
    parser.add_argument('--keep-logs', action='store_true',
                        help='keep the logs of all programs')
    args = parser.parse_args()
    tools = args.build.resolve()
    say.configure('# ')
    use_user_namespace()
    why_not = can_make_hosts()
    if why_not:
        print(f'1..0 # SKIP no hosts can be made here: {why_not}')
        return SKIP
    try:
        hostinit = build.hostinit()
        build.probe()
        initramfs()
    except build.CannotBuild as why:
        print(f'1..0 # SKIP {str(why).splitlines()[0]}')
        return SKIP
    end_by_signals()

    def too_long(_number: int, _frame) -> None:
        raise TimedOut(f'not done within {timeout} s')

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(timeout)
    print(f'1..{len(scenarios)}', flush=True)
    with Lab(hostinit, build.TOP / 'build' / 'cluster') as lab:
        failed = _run(lab, tools, begin, scenarios)
        signal.alarm(0)
        lab.keep_logs = args.keep_logs or failed
        work = lab.work
    if args.keep_logs or failed:
        say.line(f'logs: {work}')
    return 1 if failed else 0


def _run(lab: Lab, tools: Path, begin: Callable,
         scenarios: list[Callable]) -> bool:
    number, name = 0, 'set-up'
    try:
        scene = begin(lab, tools)
        say.step('set up')
        for number, scenario in enumerate(scenarios, 1):
            name = scenario.__doc__.splitlines()[0].rstrip('.')
            scenario(scene)
            say.step('done')
            print(f'ok {number} - {name}', flush=True)
        return False
    except (Exception, TimedOut) as why:
        kind = '' if isinstance(why, Unfinished) else type(why).__name__ + ': '
        if not isinstance(why, TimedOut):
            say.line(traceback.format_exc().strip())
        say.line(f'{kind}{why}')
        for log in sorted(lab.logs.glob('*.log')):
            text = log.read_text(errors='replace').strip()
            if text:
                say.line(f'--- {log.name}: {text[-600:]}')
        print(f'not ok {max(number, 1)} - {name}')
        for left in range(max(number, 1) + 1, len(scenarios) + 1):
            print(f'not ok {left} - not run')
        sys.stdout.flush()
        return True


def end(code: int) -> None:
    """Leave without waiting for threads that still ask a dead process."""
    sys.stdout.flush()
    os._exit(code)
