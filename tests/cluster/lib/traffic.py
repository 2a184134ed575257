# SPDX-License-Identifier: GPL-2.0-or-later
"""The client's traffic, and what it tells about a stretch of time."""

import mmap
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from . import build
from .lab import Host
from .machine import TCP, UDP, Ports
from .proc import until

# The structures Entry and Live of host/probe.c
_ENTRY = struct.Struct('<BBBBIQQQQQ')
_LIVE = struct.Struct('<9Q')
SENT, ANSWER = 0, 1


@dataclass
class Live:
    answers: int
    last_answer_ns: int
    durable: int
    tick: int
    tcp_sent: int
    tcp_received: int
    tcp_broken: int
    tcp_wrong: int
    last_tcp_ns: int


@dataclass
class Stretch:
    """One stream between two moments."""
    sent: int
    lost: int
    gap_ms: float               # longest time between two answers


class Traffic:
    """The probe, running on a client."""

    def __init__(self, client: Host, places: list[Ports], *,
                 udp: float = 1000, tcp: float = 200,
                 pings: tuple[float, ...] = (1, 100)):
        lab = client.lab
        self.log = lab.logs / 'probe.bin'
        live = lab.sockets / 'live'

        def where(port: int, which: list[Ports]) -> str:
            return ','.join(f'{ip}:{p}' for ip, p in
                            dict.fromkeys(ports[port] for ports in which))

        self.udp, self.names = 0, ['udp']
        streams = [f'udp={where(UDP, places)}@{udp:g}']
        if tcp:
            self.names.append('tcp')
            streams.append(f'tcp={where(TCP, places[:1])}@{tcp:g}')
        if lab.namespaces:
            for rate in pings:
                self.names.append(f'ping{rate:g}')
                ip = places[0][UDP][0]
                streams.append(f'ping={ip}@{rate:g}')
        self.process = client.popen('probe', build.probe(), self.log, live,
                                    *streams)
        self._live: Path = live
        self._map: mmap.mmap | None = None
        self._entries: list[tuple] | None = None

    def live(self) -> Live:
        """The newest state, without looking at the log."""
        if not self._map:
            try:
                with open(self._live, 'rb') as f:
                    self._map = mmap.mmap(f.fileno(), 4096,
                                          access=mmap.ACCESS_READ)
            except (OSError, ValueError):
                return Live(*[0] * 9)
        return Live(*_LIVE.unpack_from(self._map))

    def stop(self) -> None:
        """End; the log can be read afterwards."""
        if self.process.alive():
            self.process.signal(15)
            self.process.wait(10)

    def hear(self, timeout: float = 10) -> None:
        """Wait until the guest is heard, its clock ticks, and it writes."""
        start, begun = self.live(), time.monotonic_ns()
        until('the guest is heard, its clock ticks and it writes', lambda: (
            (now := self.live()).last_answer_ns > begun
            and now.tick > start.tick and now.durable > start.durable),
            timeout)

    def _read(self) -> list[tuple]:
        if self._entries is None:
            data = self.log.read_bytes()
            data = data[:len(data) - len(data) % _ENTRY.size]
            self._entries = list(_ENTRY.iter_unpack(data))
        return self._entries

    def stretch(self, name: str, start: float, end: float) -> Stretch:
        """Stream NAME from START to END (CLOCK_MONOTONIC in seconds)."""
        number = self.names.index(name)
        sent, answered, arrivals = [], set(), []
        for what, _, stream, _, _, seq, at, *_ in self._read():
            if stream != number:
                continue
            inside = start <= at / 1e9 <= end
            if what == ANSWER:
                answered.add(seq)
                if inside:
                    arrivals.append(at)
            elif inside:
                sent.append(seq)
        arrivals.sort()
        gaps = [b - a for a, b in zip(arrivals, arrivals[1:])]
        gap = max(gaps) / 1e6 if gaps else (end - start) * 1e3
        return Stretch(len(sent), sum(s not in answered for s in sent), gap)

    def clock_lag_ms(self, before: tuple[float, float],
                     after: tuple[float, float]) -> float | None:
        """How much the guest's clock fell behind ours between two stretches:
        it stands still while the guest is stopped.

        Each answer says what the guest's clock showed; the smallest delay in
        a stretch is the one least disturbed by the way.
        """
        def least(start: float, end: float) -> int | None:
            return min((at - guest for what, _, stream, _, _, _, at, guest,
                        *_ in self._read() if what == ANSWER
                        and stream == self.udp
                        and start <= at / 1e9 <= end), default=None)

        first, last = least(*before), least(*after)
        return (last - first) / 1e6 if None not in (first, last) else None
