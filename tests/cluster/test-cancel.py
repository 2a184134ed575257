#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""A migration on csv disks is cancelled."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lib import case, say                          # noqa: E402
from lib.machine import Machine                 # noqa: E402
from lib.move import move                       # noqa: E402
from lib.scene import DISKS, Scene, must        # noqa: E402


def cancel(source: Machine) -> None:
    source.qmp.cmd('migrate_cancel')
    source.wait_migration('cancelled', 'failed')


def in_the_middle(scene: Scene) -> None:
    """Cancelled in the middle, the source goes on."""
    source = scene.guest.at
    epoch = scene.witness.disk('data')['epoch']
    destination, uri = scene.incoming()
    scene.slow(source, uri)
    cancel(source)
    destination.process.wait(20)
    scene.full_speed(source)
    scene.runs_only(source, destination)
    must(scene.witness.disk('data')['epoch'] == epoch,
         'the disk never left its owner')


def before_hand_over(scene: Scene) -> None:
    """Cancelled when the guest is stopped, it runs again on the source."""
    source = scene.guest.at
    destination, uri = scene.incoming()
    scene.stop_before_switchover(source, uri)
    cancel(source)
    destination.process.wait(20)
    scene.runs_only(source, destination)


def after_hand_over(scene: Scene) -> None:
    """Cancelled after the hand-over, the source takes its disks back.

    The proxy holds the end of the stream, so the destination has no token.
    """
    source = scene.guest.at
    epoch = scene.witness.disk('data')['epoch']
    destination, uri = scene.incoming()
    proxy = scene.proxy(uri)
    scene.stop_before_switchover(source, proxy.uri)
    scene.hand_over(source, proxy)
    source.qmp.cmd('migrate_cancel')
    destination.kill()
    source.wait_migration('cancelled', 'failed')
    scene.runs_only(source, destination)
    for name in DISKS:
        must(scene.witness.disk(name)['epoch'] == epoch + 1,
             f'{name}: to take a disk back is a new epoch')


def token_comes_late(scene: Scene) -> None:
    """A destination that gets the token after that cannot use it.

    As before, but the destination lives, and is given the rest of the stream
    when the source runs again.
    """
    source = scene.guest.at
    destination, uri = scene.incoming()
    proxy = scene.proxy(uri)
    scene.stop_before_switchover(source, proxy.uri)
    scene.hand_over(source, proxy)
    source.qmp.cmd('migrate_cancel')
    scene.disk_is('data', 'owned')
    proxy.release()
    destination.process.wait(20)
    said = destination.process.output()
    say.note(said)
    must('data' in said or 'more' in said, f'it names no disk: {said}')
    source.wait_migration('cancelled', 'failed')
    scene.runs_only(source, destination)


def token_of_an_earlier_attempt(scene: Scene) -> None:
    """Disks handed over again cannot be had with an earlier token.

    Two attempts, both held by a proxy: when the first destination gets its
    token, the disks wait for the second.
    """
    source = scene.guest.at
    first, first_uri = scene.incoming()
    first_proxy = scene.proxy(first_uri)
    scene.stop_before_switchover(source, first_proxy.uri)
    scene.hand_over(source, first_proxy)
    source.qmp.cmd('migrate_cancel')
    scene.disk_is('data', 'owned')
    source.wait_migration('cancelled', 'failed')

    second, second_uri = scene.incoming(
        scene.lab.host('host-C', '10.77.0.3/24'))
    second_proxy = scene.proxy(second_uri)
    scene.stop_before_switchover(source, second_proxy.uri)
    scene.hand_over(source, second_proxy)
    first_proxy.release()
    first.process.wait(20)
    say.note(first.process.output())
    scene.runs_nowhere(source, second)
    second_proxy.release()
    second.qmp.wait('RESUME', 20)
    source.wait_migration('completed')
    scene.runs_only(second, source, first)
    source.quit()


def moves_afterwards(scene: Scene) -> None:
    """After all that the guest moves."""
    scene.runs_only(move(scene.guest, scene.other()).machine)


def the_end(scene: Scene) -> None:
    """After the guest's end the data is there from outside."""
    scene.finish()


if __name__ == '__main__':
    case.end(case.main(__doc__, Scene,
                       [in_the_middle, before_hand_over, after_hand_over,
                        token_comes_late, token_of_an_earlier_attempt,
                        moves_afterwards, the_end], timeout=180))
