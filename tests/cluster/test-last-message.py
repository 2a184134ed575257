#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""The last message of the return path is lost.

The destination has loaded everything, claimed the disks and runs. What the
source gets is the end of the connection, without the word that all is well.
QEMU as it comes starts the guest on the source then, too.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lib import case, say                       # noqa: E402
from lib.proxy import SHUT                      # noqa: E402
from lib.qmp import QmpError                    # noqa: E402
from lib.scene import Scene, must               # noqa: E402


def lost(scene: Scene) -> None:
    """The source sees that the guest has moved, and stays stopped."""
    source = scene.guest.at
    destination, uri = scene.incoming()
    proxy = scene.proxy(uri, drop=(SHUT,))
    source.migrate(proxy.uri)
    end = source.wait_migration('completed', 'failed')
    must(proxy.dropped == [SHUT], f'lost were {proxy.dropped}')
    destination.qmp.wait('RESUME', 10)
    scene.runs_only(destination, source)
    must(end == 'completed', f'the source says {end}')
    must(source.status() == 'postmigrate', f'it is {source.status()}')
    scene.old_source = source


def told_to_run(scene: Scene) -> None:
    """The source cannot be made to run: "cont" is refused and says why."""
    source = scene.old_source
    try:
        source.qmp.cmd('cont')
    except QmpError as why:
        say.note(str(why))
        must('data' in str(why) or 'more' in str(why), 'it names the disk')
        must('host-B' in str(why), 'it names the owner')
    else:
        raise AssertionError('"cont" was accepted')
    scene.runs_only(scene.guest.at, source)
    source.quit()


def lost_and_dead(scene: Scene) -> None:
    """When the destination dies then, the source still stays stopped.

    The guest has run on the destination and has acknowledged writes that the
    source's memory knows nothing of. A new start has them all.
    """
    source = scene.guest.at
    destination, uri = scene.incoming()
    proxy = scene.proxy(uri, drop=(SHUT,))
    source.migrate(proxy.uri)
    source.wait_migration('completed', 'failed')
    destination.qmp.wait('RESUME', 10)
    scene.guest.at = destination
    scene.hears()
    destination.kill()
    try:
        source.qmp.cmd('cont')
    except QmpError as why:
        say.note(str(why))
    scene.runs_nowhere(source, destination)
    scene.reboot(destination.host)
    scene.runs_only(scene.guest.at, source, destination)
    source.quit()


def the_end(scene: Scene) -> None:
    """After the guest's end the data is there from outside."""
    scene.finish()


if __name__ == '__main__':
    case.end(case.main(__doc__, Scene,
                       [lost, told_to_run, lost_and_dead, the_end],
                       timeout=180))
