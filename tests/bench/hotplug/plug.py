# SPDX-License-Identifier: GPL-2.0-or-later
"""The two ways to attach and to detach a disk."""

from lib.qmp import Qmp

TIMEOUT = 60                    # of the guest, in seconds


class PlainCommands:
    """The four commands of QEMU as released."""

    DEVICES = {'scsi': {'driver': 'scsi-hd', 'bus': 'disks.0'},
               'virtio-blk': {'driver': 'virtio-blk-pci', 'bus': 'slot1'}}

    def __init__(self, qmp: Qmp, node: dict, bus: str):
        self.qmp, self.node, self.asked = qmp, node, 1
        self.device = {**self.DEVICES[bus], 'id': 'hot',
                       'drive': node['node-name']}

    def attach(self) -> None:
        self.qmp.cmd('blockdev-add', **self.node)
        self.qmp.cmd('device_add', **self.device)

    def detach(self, begun: float) -> None:
        self.qmp.cmd('device_del', id='hot')
        self.qmp.wait('DEVICE_DELETED', TIMEOUT, begun, device='hot')
        self.qmp.cmd('blockdev-del', node_name=self.node['node-name'])


class DiskCommands:
    """One command each."""

    ENDS = ('removed', 'refused', 'timed-out', 'cancelled')

    def __init__(self, qmp: Qmp, node: dict, bus: str):
        self.qmp, self.node, self.bus = qmp, node, bus
        self.asked = 0          # how often the guest was

    def attach(self) -> None:
        self.qmp.cmd('disk-attach', id='hot', bus=self.bus,
                     blockdev=self.node)

    def detach(self, begun: float) -> None:
        self.qmp.cmd('disk-detach', id='hot')
        seen = begun
        while True:
            event = self.qmp.wait('DISK_DETACH_STATUS', TIMEOUT, seen)
            info = event.data['info']
            if info['state'] in self.ENDS:
                break
            # the next one came in later
            seen = event.at + 1e-9
        self.asked = info['asked']
        if info['state'] != 'removed':
            raise RuntimeError(f'disk-detach: {info}')
