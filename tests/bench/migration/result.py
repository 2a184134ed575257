# SPDX-License-Identifier: GPL-2.0-or-later
"""What one move was like, and a row of the table made of several."""

import statistics
from dataclasses import dataclass

MB = 1000 * 1000


@dataclass
class Run:
    ended: bool
    total_ms: float
    blackout_ms: float | None
    guest_gap_ms: float | None
    lost: int
    tcp_gap_ms: float
    bytes: int
    predicted: float | None
    why: str = ''


def spread(values: list) -> dict | None:
    values = sorted(v for v in values if v is not None)
    if not values:
        return None
    return {'p50': round(statistics.median(values), 1),
            'p95': round(values[min(len(values) - 1,
                                    int(0.95 * len(values)))], 1),
            'max': round(values[-1], 1)}


def _off(run: Run) -> float | None:
    """By how much the prediction was wrong."""
    if not run.ended or run.predicted is None or not run.blackout_ms:
        return None
    return abs(run.predicted - run.blackout_ms)


def _part(runs: list[Run]) -> float | None:
    """The median of that, as a part of what was seen."""
    return round(statistics.median(_off(r) / r.blackout_ms for r in runs),
                 3) if runs else None


def _scatter(seen: list[float]) -> float | None:
    """How far blackouts are from their own median, as a part of each: what the
    best constant, known only afterwards, would be wrong by."""
    if not seen:
        return None
    middle = statistics.median(seen)
    return round(statistics.median(abs(s - middle) / s for s in seen), 3)


def summary(guest: str, link: str, method: str, runs: list[Run],
            ram: int) -> dict:
    return {
        'guest': guest, 'link': link, 'method': method, 'runs': len(runs),
        'ended': sum(r.ended for r in runs),
        'total_ms': spread([r.total_ms for r in runs]),
        'blackout_ms': spread([r.blackout_ms for r in runs if r.ended]),
        'guest_gap_ms': spread([r.guest_gap_ms for r in runs]),
        'pings_lost_100hz': spread([r.lost for r in runs]),
        'tcp_gap_ms': spread([r.tcp_gap_ms for r in runs]),
        'bytes': spread([r.bytes for r in runs]), 'ram_bytes': ram,
        'predicted_blackout_ms': spread([r.predicted for r in runs]),
        'prediction_off_ms': spread([_off(r) for r in runs]),
        'prediction_off_part': _part([r for r in runs if _off(r) is not None]),
        'blackout_scatter_part': _scatter([r.blackout_ms for r in runs
                                           if r.ended and r.blackout_ms]),
        'why': sorted({r.why for r in runs if r.why})}


HEADER = (f'{"guest":12} {"link":10} {"method":18} {"ended":>6} '
          f'{"total s":>8} {"MB":>7} {"blackout":>9} {"predicted":>9} '
          f'{"off":>5} {"own":>5} {"max":>5} '
          f'{"gap p50":>8} {"p95":>6} {"TCP p50":>8} {"pings":>6}')


def percent(part: float | None) -> str:
    return '-' if part is None else f'{part:.0%}'


def line(row: dict) -> str:
    def p(name: str, which: str = 'p50', scale: float = 1,
          digits: int = 0) -> str:
        return (f'{row[name][which] / scale:.{digits}f}' if row[name]
                else '-')
    return (f'{row["guest"]:12} {row["link"]:10} {row["method"]:18} '
            f'{row["ended"]:>3}/{row["runs"]:<2} '
            f'{p("total_ms", scale=1000, digits=2):>8} '
            f'{p("bytes", scale=MB):>7} {p("blackout_ms"):>9} '
            f'{p("predicted_blackout_ms"):>9} '
            f'{percent(row["prediction_off_part"]):>5} '
            f'{percent(row["blackout_scatter_part"]):>5} '
            f'{p("prediction_off_ms", "max"):>5} {p("guest_gap_ms"):>8} '
            f'{p("guest_gap_ms", "p95"):>6} {p("tcp_gap_ms"):>8} '
            f'{p("pings_lost_100hz"):>6}')
