#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""The source of a migration on csv disks dies at switch-over."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lib import case                            # noqa: E402
from lib.scene import DISKS, Scene, must        # noqa: E402


def when_all_is_sent(scene: Scene) -> None:
    """Killed when it has sent everything, the destination runs the guest.

    The proxy holds the last part of the stream until the source is dead.
    """
    source = scene.guest.at
    destination, uri = scene.incoming()
    proxy = scene.proxy(uri)
    scene.stop_before_switchover(source, proxy.uri)
    scene.hand_over(source, proxy)
    source.kill()
    must(scene.witness.disk('data')['state'] == 'handover',
         'nobody has claimed the disk yet')
    proxy.release()
    destination.qmp.wait('RESUME', 20)
    scene.runs_only(destination, source)


def before_hand_over(scene: Scene) -> None:
    """Killed before the hand-over, its disks can be taken once it is fenced.

    The guest is lost, as with any host that dies; it boots on the other host
    and finds everything that it had acknowledged.
    """
    source = scene.guest.at
    destination, uri = scene.incoming()
    scene.stop_before_switchover(source, uri)
    source.kill()
    destination.process.wait(20)
    for name in DISKS:
        disk = scene.witness.disk(name)
        must(disk['state'] == 'owned'
             and disk['owner']['liveness'] == 'unknown',
             f'nobody knows yet that the owner of {name} is dead: {disk}')
    scene.fence(source)
    must(scene.witness.disk('data')['owner']['liveness'] == 'dead',
         'now it is known')
    scene.reboot(destination.host)
    scene.runs_only(scene.guest.at, source, destination)


def after_hand_over(scene: Scene) -> None:
    """Killed after the hand-over with the token lost, a new start gets in.

    The proxy never gives the destination the end of the stream: the token is
    gone with the source, so nobody can run the guest that was on its way.
    """
    source = scene.guest.at
    destination, uri = scene.incoming()
    proxy = scene.proxy(uri)
    scene.stop_before_switchover(source, proxy.uri)
    scene.hand_over(source, proxy)
    source.kill()
    proxy.close()
    destination.process.wait(20)
    scene.runs_nowhere(source, destination)
    scene.fence(source)
    scene.reboot(destination.host)
    scene.runs_only(scene.guest.at, source, destination)


def the_end(scene: Scene) -> None:
    """After the guest's end the data is there from outside."""
    scene.finish()


if __name__ == '__main__':
    case.end(case.main(__doc__, Scene,
                       [when_all_is_sent, before_hand_over, after_hand_over,
                        the_end], timeout=240))
