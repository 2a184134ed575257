# SPDX-License-Identifier: GPL-2.0-or-later
"""What the programs that cut migrations have in common: options, the choice of
cases, the loop over them, and how one is told that one fails."""

import argparse
import random
import sys
from pathlib import Path

from . import build, say
from .lab import Lab, end_by_signals


def options(text: str, case: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--build', type=Path,
                        default=build.TOP / 'build' / 'qemu')
    parser.add_argument('--sample', type=int, metavar='N',
                        help='only N cases, chosen by the seed')
    parser.add_argument('--seed', type=int,
                        default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument('--keep-logs', action='store_true')
    parser.add_argument('--case', metavar=case, help='only this one')
    return parser.parse_args()


def choose(args: argparse.Namespace, direct: bool, all_of_them: list) -> list:
    """Those to be done. Without O_DIRECT a node whose flush has failed once
    must not be used any more, so no path is lost then."""
    if not direct:
        say.line('no O_DIRECT here: no path is lost')
        all_of_them = [case for case in all_of_them if case.fault.partition(
            '-')[0] not in ('fail', 'late', 'lose', 'isolate')]
    if args.sample:
        return random.Random(args.seed).sample(
            all_of_them, min(args.sample, len(all_of_them)))
    return all_of_them


def run(args: argparse.Namespace, todo: list, once) -> bool:
    """ONCE for each case, which says whether its point was reached, and in the
    end for None, without a fault. Whether all were good; after one that is
    not, the state is unknown: so it ends."""
    print(f'1..{len(todo) + 1}')
    say.line(f'seed {args.seed}')
    for n, case in enumerate([*todo, None], 1):
        text = case.text() if case else 'after all that it still moves'
        try:
            reached = once(case) or not case
        except Exception as why:
            print(f'not ok {n} - {text}')
            say.line(f'{type(why).__name__}: {why}')
            say.line(f'again: tests/cluster/{Path(sys.argv[0]).name} '
                     f'--seed {args.seed} --case {case or todo[-1]}')
            return False
        print(f'ok {n} - {text}{"" if reached else " (was not reached)"}',
              flush=True)
    return True


def main(args: argparse.Namespace, work) -> int:
    """WORK in a lab; it says whether all was good."""
    say.configure('# ')
    end_by_signals()
    try:
        hostinit = build.hostinit()
        build.lost_path()
    except build.CannotBuild as why:
        print(f'1..0 # SKIP {str(why).splitlines()[0]}')
        return 77
    with Lab(hostinit, build.TOP / 'build' / 'cuts',
             namespaces=False) as lab:
        good = work(lab)
        lab.keep_logs = args.keep_logs or not good
    return 0 if good else 1
