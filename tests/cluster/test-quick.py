#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""Quick migration: a guest goes through the volume, without a connection."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lib import case                            # noqa: E402
from lib.machine import Machine                 # noqa: E402
from lib.move import pipeline                   # noqa: E402
from lib.proc import until                      # noqa: E402
from lib.qmp import QmpError                    # noqa: E402
from lib.scene import DISKS, Scene, Wrong, must  # noqa: E402

STATE = f'{DISKS[0]}.state'
MOVES = 6


def has_state(scene: Scene) -> bool:
    return any(d['name'] == STATE for d in scene.witness.volume()['disks'])


def save(scene: Scene, **options) -> Machine:
    """Save the guest; the source, which is done with it."""
    source = scene.guest.at
    source.qmp.cmd('migrate-pipeline-start', mode='quick', **options)
    until('the source is done', lambda: pipeline(source)['stage'] in
          ('completed', 'failed', 'cancelled'), 60)
    must(pipeline(source)['stage'] == 'completed',
         f'it was saved: {pipeline(source)}')
    return source


def restore(scene: Scene, **options) -> Machine:
    """A machine on the other host that takes the guest in."""
    target = scene.machine(scene.other(), incoming=True)
    target.qmp.cmd('migrate-pipeline-restore', **options)
    return target


def back_and_forth(scene: Scene) -> None:
    """It moves back and forth, with memory and disk in use.

    Memory comes in while it runs, or before it does.
    """
    scene.guest.run('agent dirty 24 20')
    for turn in range(MOVES):
        epoch = scene.witness.disk('data')['epoch']
        source = save(scene)
        must(has_state(scene), 'there is a state')
        scene.runs_nowhere(source)
        target = restore(scene, lazy=turn % 3 != 2)
        target.qmp.wait('RESUME', 20)
        scene.runs_only(target, source)
        source.quit()
        until('all memory is there',
              lambda: pipeline(target)['stage'] == 'completed', 30)
        must(not has_state(scene), 'the state is gone')
        must(scene.witness.disk('data')['epoch'] == epoch + 1,
             'a move is one change of the owner')
    scene.check_data()


def source_is_gone(scene: Scene) -> None:
    """The source's host dies when all is saved: the guest goes on elsewhere."""
    source = save(scene)
    source.kill()
    target = restore(scene)
    target.qmp.wait('RESUME', 20)
    scene.runs_only(target, source)
    until('all memory is there',
          lambda: pipeline(target)['stage'] == 'completed', 30)


def is_refused(target: Machine, word: str) -> None:
    try:
        target.qmp.cmd('migrate-pipeline-restore')
    except QmpError as why:
        must(word in str(why), f'it says why: {why}')
    else:
        raise Wrong('it was restored')


def dies_while_it_saves(scene: Scene) -> None:
    """The source dies in the middle: nothing can be restored.

    The guest is lost, as with any host that dies, and boots elsewhere with all
    that it had acknowledged.
    """
    source = scene.guest.at
    source.qmp.cmd('migrate-pipeline-start', mode='quick',
                   max_bandwidth=1 << 20)
    until('there is a state', lambda: has_state(scene), 20)
    source.kill()
    target = scene.machine(scene.other(), incoming=True)
    is_refused(target, 'cannot be seen from here')
    scene.fence(source)
    is_refused(target, 'not come to the end')
    target.quit()
    scene.reboot(target.host)
    scene.runs_only(scene.guest.at, source)


def two_at_once(scene: Scene) -> None:
    """Two hosts restore it: one has the guest, the other one is told so."""
    source = save(scene)
    first = restore(scene)
    first.qmp.wait('RESUME', 20)
    scene.runs_only(first, source)
    source.quit()
    second = scene.machine(scene.other(), incoming=True)
    try:
        second.qmp.cmd('migrate-pipeline-restore')
        until('it has failed', lambda: pipeline(second)['stage'] == 'failed',
              20)
    except QmpError as why:
        must('in use' in str(why) or 'no disk' in str(why) or
             'owned by another' in str(why), f'it says why: {why}')
    scene.runs_nowhere(second)
    second.quit()
    scene.runs_only(first)


def the_end(scene: Scene) -> None:
    """After the guest's end the data is there from outside."""
    until('all memory is there',
          lambda: pipeline(scene.guest.at)['stage'] == 'completed', 30)
    scene.finish()


if __name__ == '__main__':
    case.end(case.main(__doc__, Scene,
                       [back_and_forth, source_is_gone, dies_while_it_saves,
                        two_at_once, the_end], timeout=300))
