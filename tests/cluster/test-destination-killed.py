#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""The destination of a migration on csv disks dies."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lib import case                            # noqa: E402
from lib.move import move                       # noqa: E402
from lib.proc import until                      # noqa: E402
from lib.scene import DISKS, Scene, must        # noqa: E402


def before_it_is_asked(scene: Scene) -> None:
    """Killed before the source connects."""
    source = scene.guest.at
    destination, uri = scene.incoming()
    destination.kill()
    source.migrate(uri)
    source.wait_migration('failed')
    scene.runs_only(source, destination)


def at_set_up(scene: Scene) -> None:
    """Killed at set-up, when the connection stands.

    The proxy lets nothing through, so not one page has been loaded.
    """
    source = scene.guest.at
    destination, uri = scene.incoming()
    proxy = scene.proxy(uri)
    proxy.hold()
    source.migrate(proxy.uri)
    until('the source sends', lambda: proxy.held, 10)
    destination.kill()
    source.wait_migration('failed')
    must(proxy.forwarded == 0, 'the destination had got something')
    scene.runs_only(source, destination)


def in_the_middle(scene: Scene) -> None:
    """Killed in the middle."""
    source = scene.guest.at
    epoch = scene.witness.disk('data')['epoch']
    destination, uri = scene.incoming()
    scene.slow(source, uri)
    destination.kill()
    source.wait_migration('failed')
    scene.full_speed(source)
    scene.runs_only(source, destination)
    must(scene.witness.disk('data')['epoch'] == epoch,
         'the disk never left its owner')


def before_hand_over(scene: Scene) -> None:
    """Killed at switch-over, before the disks are handed over."""
    source = scene.guest.at
    destination, uri = scene.incoming()
    scene.stop_before_switchover(source, uri)
    destination.kill()
    source.qmp.cmd('migrate-continue', state='pre-switchover')
    source.wait_migration('failed')
    scene.runs_only(source, destination)


def after_hand_over(scene: Scene) -> None:
    """Killed at switch-over, after the disks are handed over.

    The proxy holds what the source has sent since, so the destination cannot
    have claimed anything.
    """
    source = scene.guest.at
    epoch = scene.witness.disk('data')['epoch']
    destination, uri = scene.incoming()
    proxy = scene.proxy(uri)
    scene.stop_before_switchover(source, proxy.uri)
    scene.hand_over(source, proxy)
    destination.kill()
    source.wait_migration('failed')
    scene.runs_only(source, destination)
    for name in DISKS:
        must(scene.witness.disk(name)['epoch'] == epoch + 1,
             f'{name}: to take a disk back is a new epoch')


def before_it_is_told_to_run(scene: Scene) -> None:
    """A destination with -S dies before "cont"; the source runs by "cont"."""
    source = scene.guest.at
    destination, uri = scene.incoming(paused=True)
    source.migrate(uri)
    source.wait_migration('completed')
    scene.runs_nowhere(source, destination)
    destination.kill()
    source.qmp.cmd('cont')
    scene.runs_only(source, destination)


def moves_afterwards(scene: Scene) -> None:
    """After all that the guest moves."""
    scene.runs_only(move(scene.guest, scene.other()).machine)


def the_end(scene: Scene) -> None:
    """After the guest's end the data is there from outside."""
    scene.finish()


if __name__ == '__main__':
    case.end(case.main(__doc__, Scene,
                       [before_it_is_asked, at_set_up, in_the_middle,
                        before_hand_over, after_hand_over,
                        before_it_is_told_to_run, moves_afterwards, the_end],
                       timeout=240))
