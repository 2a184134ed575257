#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""Live migration of a guest on csv disks, when nothing goes wrong."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lib import case, say                       # noqa: E402
from lib.move import move, pipeline, plainly    # noqa: E402
from lib.promise import Promised                # noqa: E402
from lib.scene import Scene, must               # noqa: E402

MOVES = int(os.environ.get('CSV_MOVES', 20))
PROMISE = 2000                  # ms; the host may be busy


def once(scene: Scene) -> None:
    """The guest moves to the other host."""
    before = scene.witness.disk('data')['epoch']
    done = move(scene.guest, scene.other())
    scene.runs_only(done.machine)
    must(scene.witness.disk('data')['epoch'] == before + 1,
         'a move is one change of the owner')


def many_times(scene: Scene) -> None:
    """It moves back and forth, with memory and disk in use.

    With migrate and with the pipeline in turns.
    """
    scene.guest.run('agent dirty 24 20')
    scene.guest.run('dd if=/dev/urandom of=/tmp/pattern bs=64k count=4')
    for turn in range(MOVES):
        # written past the page cache and not flushed: the move must do it
        at = turn * 331 % 16000
        scene.guest.run('dd if=/tmp/pattern of=/dev/vdb bs=4k oflag=direct '
                        f'seek={at} 2>&1')
        done = move(scene.guest, scene.other(),
                    how=Promised(PROMISE) if turn % 2 else plainly)
        scene.guest.run('dd if=/dev/vdb bs=4k iflag=direct count=64 '
                        f'skip={at} 2>/dev/null | cmp - /tmp/pattern')
        scene.owned_by(done.machine)
        scene.hears()
        must('first-packet' in pipeline(done.machine)['blackout'],
             'the first packet was seen')
        say.step(f'{turn + 1}: {done.source} to {done.target}, '
                 f'{done.total_ms} ms, downtime {done.downtime_ms} ms')
    scene.runs_only(scene.guest.at)


def paused_destination(scene: Scene) -> None:
    """A destination with -S gets the disks when it is told to run."""
    source = scene.guest.at
    destination, uri = scene.incoming(paused=True)
    source.migrate(uri)
    source.wait_migration('completed')
    scene.runs_nowhere(source, destination)
    must(scene.witness.disk('data')['state'] == 'handover',
         'the disk waits for its new owner')
    destination.qmp.cmd('cont')
    scene.runs_only(destination, source)
    source.quit()


def volume_opened_twice(scene: Scene) -> None:
    """A destination may open the volume anew for each disk."""
    for plan in (scene.volume_for_each_disk(), None):
        source = scene.guest.at
        destination, uri = scene.incoming(plan=plan)
        source.migrate(uri)
        source.wait_migration('completed')
        destination.qmp.wait('RESUME', 10)
        scene.runs_only(destination, source)
        source.quit()


def the_end(scene: Scene) -> None:
    """After the guest's end the data is there from outside."""
    scene.finish()


if __name__ == '__main__':
    case.end(case.main(__doc__, Scene,
                       [once, many_times, paused_destination,
                        volume_opened_twice, the_end],
                       timeout=200 + 12 * MOVES))
