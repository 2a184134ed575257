# SPDX-License-Identifier: GPL-2.0-or-later
"""What the demo shows in the end: tables, bars, and what was to be true."""

from . import say
from .hotplug import show_visits
from .switchover import show_losses

BAR = 60                    # characters of the longest bar

PICTURE = '''
   ┌──────────┐
   │  client  │    pings it once and 100 times a second, sends 1000
   └────┬─────┘    datagrams a second, and holds a TCP stream
        │
   ═════╪══════════════ LAN ══════════════╗
   ┌────┴─────┐                      ┌────╨─────┐
   │  host A  │    live migration    │  host B  │
   │ [guest]╶─┼╶─╶─╶─╶─╶─╶─╶─╶─╶─╶─╶►│          │
   └────┬─────┘                      └────┬─────┘
        └───────────────┬─────────────────┘
            ┌───────────┴────────────┐
            │ cluster shared volume  │   data:  the guest writes to it
            │ disks: data, files     │   files: known contents
            └────────────────────────┘   extra: comes and goes
'''

# What a blackout is made of, as the bars show it
SHADES = [('█', '31', 'the source stops the guest and gives its disks up',
           ('stop', 'flush', 'release', 'sync')),
          ('▓', '33', 'sends the rest',
           ('memory', 'device-state', 'wire')),
          ('▒', '36', 'the destination loads it',
           ('load', 'remote')),
          ('░', '32', 'takes the disks and starts the guest',
           ('claim', 'start'))]
REST = '·'
CHECKS = (('alone', 'whatever was lost at a switch-over, one side ran the '
                    'guest, had its disks and all that was acknowledged'),
          ('guest', 'the guest runs'),
          ('disk', 'its data is all there, inside and outside'),
          ('tcp', 'the TCP stream lost no byte'),
          ('owner', 'never more than one owner'))
CLAIM = 'Windows Server 2008 R2, as announced'


def text(value, unit: str = '') -> str:
    if value is None:
        return '–'
    return f'{value:.0f}{unit}' if isinstance(value, float) else f'{value}'


# ---- how long the guest stood ----

def blackout_parts(m: dict) -> list[dict]:
    """What both sides say: the destination's own parts in place of what the
    source knows of them."""
    parts = m['source_report'].get('blackout', {}).get('parts', [])
    there = m['target_report'].get('blackout', {}).get('parts', [])
    known = any(p['part'] == 'wire' for p in parts)
    if not known or not there:
        return parts
    theirs = {'remote', *(p['part'] for p in there)}
    return [p for p in parts if p['part'] not in theirs] + there


def said(m: dict) -> float:
    """Milliseconds that the guest stood, as the source counts them"""
    total = m['source_report'].get('blackout', {}).get('total', 0)
    return total / 1000 or m['downtime_ms']


def stood(m: dict) -> float:
    """The same by the client's clock, if the guest could be asked."""
    return max(m['guest_stopped_ms'] or m['downtime_ms'], 0)


def kept(m: dict) -> bool | None:
    """Was the promise kept, by QEMU's own count? None: there was none."""
    return said(m) <= m['promise']['ms'] if m['promise'] else None


def shade(part: str) -> tuple[str, str]:
    return next(((char, colour) for char, colour, _, parts in SHADES
                 if part in parts), ('█', '0'))


def bar(m: dict, longest: float) -> str:
    """The parts as stretches of a bar; the short ones have no length. What
    both sides do overlaps, so all of it is as long as QEMU says."""
    parts = blackout_parts(m)
    whole = sum(p['time'] for p in parts) or 1
    scale = min(1000 * said(m), whole) / whole / 1000 / longest * BAR
    out, last, at = '', 0, 0
    for part in parts:
        at += part['time']
        end = round(at * scale)
        char, colour = shade(part['part'])
        out += say.paint(char * (end - last), colour) if end > last else ''
        last = end
    return out + say.faint(REST * max(0, round(stood(m) / longest * BAR) - last))


def verdict(m: dict) -> str:
    """The promise, and what became of it"""
    if not m['promise']:
        return ''
    word = say.good('kept') if m['kept'] else say.bad('not kept')
    return f', promised {m["promise"]["ms"]}: {word}'


def show_blackouts(moves: list[dict]) -> None:
    """How long the guest stood, by the client's clock, and what made it."""
    longest = max(max(stood(m), said(m)) for m in moves) or 1
    say.line()
    say.line('  How long the guest stood still, by the client\'s clock:')
    for m in moves:
        parts = blackout_parts(m)
        say.line(f'  {m["act"]:8} {m["from"]} ► {m["to"]}  '
                 f'{bar(m, longest)} '
                 f'{say.bold("%.0f ms" % stood(m))}; '
                 f'QEMU says {said(m):.0f}{verdict(m)}')
        if m['promise']:
            say.line(say.faint(f'    promised {m["promise"]["ms"]} ms: '
                               f'{m["promise"]["why"]}'))
        if 'prediction' in m['source_report']:
            say.line(say.faint('    ' + prediction(
                m['source_report']['prediction'])))
        if parts:
            say.line('    ' + ', '.join(say.paint(
                f'{p["part"]} {p["time"] / 1000:.1f}', shade(p['part'])[1])
                for p in parts))
    say.line()
    for char, colour, what, parts in SHADES:
        say.line(f'    {say.paint(char, colour)} {what}: {", ".join(parts)}')
    say.line(f'    {say.faint(REST)} not in QEMU\'s count')


def prediction(p: dict) -> str:
    return (f'QEMU expected {p["predicted"] / 1000:.0f} ms just before, and '
            f'saw {p["seen"] / 1000:.0f}')


# ---- the moves ----

def move_rows(moves: list[dict]) -> list[list[str]]:
    return [[
        f'{m["act"]}: {m["from"]} ► {m["to"]}',
        f'{text(m["pings_lost"])} / {text(m["pings_sent"])}',
        f'{text(m.get("fast_pings_lost"))} / '
        f'{text(m.get("fast_pings_sent"))}',
        text(m['longest_gap_ms'], ' ms'), text(m['tcp_gap_ms'], ' ms'),
        text(m['guest_gap_ms'], ' ms'), text(m['guest_stopped_ms'], ' ms'),
        f'{m["downtime_ms"]} ms',
        f'{m["promise"]["ms"]} ms' if m['promise'] else '–',
        f'{m["total_ms"]} ms', f'{m["bytes"] / 1e6:.0f} MB'] for m in moves]


def show_table(report: dict, moves: list[dict]) -> None:
    rows = [['move', 'pings 1/s', 'pings 100/s', 'longest', 'TCP', "guest's",
             'guest', 'downtime', 'promise', 'total', 'sent'],
            ['', 'lost/sent', 'lost/sent', 'gap', 'gap', 'own gap', 'stood',
             '(QEMU)', '', '', '']]
    rows += move_rows(moves)
    rows.append([say.faint(CLAIM), say.faint('1 or 2')]
                + [say.faint('·')] * 9)
    say.line()
    say.line(say.table(rows, rule=2))
    say.line()
    say.line(say.faint(
        'longest gap: between two answers of the UDP probe (1000/s; '
        f'{text(report["calm"]["longest_gap_ms"])} ms in the calm before).  '
        "guest's own gap: of a 1 ms loop,\nby a clock that stands still while "
        'the guest does; how long it stood: by how much that clock fell '
        "behind the client's."))
    if len({m['act'] for m in moves}) > 1:
        say.line(say.faint(
            'released: QEMU 10.0 as it is, with migrate, on plain files; '
            'pipeline: this series, on a cluster shared volume.'))


def show_given_up(tries: list[dict]) -> None:
    for one in tries:
        say.line(f'  –   {one["from"]} ► {one["to"]} was given up with a '
                 f'promise of {one["promise"]} ms, the guest went on: '
                 f'{say.faint(one["why"])}')


def show(report: dict, released: dict | None) -> None:
    theirs = released or {'moves': [], 'losses': []}
    moves = theirs['moves'] + report['moves']
    show_losses([('released', theirs['losses']),
                 ('pipeline', report['losses'])])
    if report['moves']:
        show_table(report, moves)
        show_blackouts(moves)
    if report['hotplug']:
        show_visits(report['hotplug'])
    say.line()
    lost = [m['pings_lost'] for m in report['moves']]
    if lost and None not in lost:
        say.line(f'  {say.good("ok ") if max(lost) <= 2 else "–  "} of the '
                 f'pings at one a second {" and ".join(map(str, lost))} were '
                 f'lost; {CLAIM}: one or two')
    promised = [m for m in report['moves'] if m['promise']]
    if promised:
        mark = all(m['kept'] for m in promised)
        say.line(f'  {say.good("ok ") if mark else "–  "} ' + ', '.join(
            f'a promise of {m["promise"]["ms"]} ms was '
            f'{"kept" if m["kept"] else "not kept"}' for m in promised))
    show_given_up(report['gave_up'])
    for what, claim in CHECKS:
        ok = report[f'{what}_ok']
        mark = say.good('ok ') if ok else say.bad('BAD')
        if what == 'tcp' and report['mode'] == 'loopback' and not ok:
            mark, claim = '–  ', ('the TCP stream broke, as it must: a '
                                  'forwarded port ends with its QEMU')
        say.line(f'  {mark} {claim}')
    for wrong in report['wrong']:
        say.line(f'      {say.faint(wrong)}')
