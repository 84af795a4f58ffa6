# SPDX-License-Identifier: Apache-2.0
"""Bar charts as SVG, with nothing but text: they lie beside the page and any browser shows them."""

import html
import math

WIDTH = 900
LEFT = 270
RIGHT = 70
BAR = 13
GAP = 10
TOP = 62
FONT = "font-family='Liberation Sans, Arial, sans-serif'"
# Told apart by most eyes, also in print.
COLOURS = ("#0b6e99", "#e07b00", "#4f9d4f", "#8b5fb0", "#b03a48", "#8a8a8a", "#c2a500", "#3fb3b3")


def bars(title, note, groups, series, unit, log=False):
    """Horizontal bars: groups is [(label, {series name: value})], in the order they are shown; a
    series that a group lacks takes no room. Colours go by the order of series, whether or not they
    are there. With log the axis is logarithmic and bars start at 1. "" if there is nothing to show."""
    values = [v for _, those in groups for v in those.values()]
    if not values:
        return ""
    low, high = bounds(values, log)
    colours = colours_of(groups, series)
    body, y = [], TOP
    for label, those in groups:
        shown = [(name, those[name]) for name in series if name in those]
        middle = y + len(shown) * BAR / 2 + 4
        body.append(text(LEFT - 8, middle, label, anchor="end"))
        for name, value in shown:
            a, b = sorted((place(1 if log else 0, low, high, log), place(value, low, high, log)))
            body.append(box(a, y, max(1, b - a), BAR - 2, colours[name],
                            f"{label}: {name} {short(value)} {unit}"))
            body.append(text(b + 4, y + BAR - 4, short(value), size=10))
            y += BAR
        y += GAP
    return document(title, note, legend(colours) + axis(low, high, log, y) + body, y + 14)


def stacked(title, note, groups, series):
    """Horizontal bars of 100 %: groups is [(label, {series name: share of 1})]."""
    if not groups:
        return ""
    colours = colours_of(groups, series)
    body, y = [], TOP
    for label, those in groups:
        body.append(text(LEFT - 8, y + BAR - 2, label, anchor="end"))
        used = 0.0
        for name in series:
            # Clocks of different grain may add up to a little more than there is.
            share = min(1.0 - used, max(0.0, those.get(name) or 0.0))
            begin, end = place(used, 0, 1, False), place(used + share, 0, 1, False)
            body.append(box(begin, y, end - begin, BAR, colours[name], f"{label}: {name} {share:.0%}"))
            used += share
        y += BAR + GAP - 3
    return document(title, note, legend(colours) + axis(0, 1, False, y, percent=True) + body, y + 14)


def bounds(values, log):
    if not log:
        return 0, max(values) * 1.02 or 1
    low = min(1.0, min(values)) or 0.01
    return 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(max(1.0001, *values)))


def place(value, low, high, log):
    """Where on the page a value lies."""
    if log:
        value, low, high = math.log10(max(value, low)), math.log10(low), math.log10(high)
    return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)


def ticks(low, high, log):
    if log:
        return [10.0 ** e for e in range(round(math.log10(low)), round(math.log10(high)) + 1)]
    step = 10 ** math.floor(math.log10(high))
    while high / step < 4:
        step /= 2
    return [i * step for i in range(int(high / step) + 1)]


def axis(low, high, log, bottom, percent=False):
    parts = []
    for value in ticks(low, high, log):
        x = place(value, low, high, log)
        dark = log and value == 1
        parts.append(f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{TOP - 6}' y2='{bottom}' "
                     f"stroke='{'#000' if dark else '#ddd'}'/>")
        label = f"{value:.0%}" if percent else short(value)
        parts.append(text(x, TOP - 10, label, anchor="middle", size=10))
    return parts


def colours_of(groups, series):
    """series name -> colour, for those that are in a group."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(series)
            if any(name in those for _, those in groups)}


def legend(colours):
    parts, x = [], LEFT
    for name, colour in colours.items():
        parts.append(f"<rect x='{x}' y='28' width='10' height='10' fill='{colour}'/>")
        parts.append(text(x + 14, 37, name, size=11))
        x += 28 + 7 * len(name)
    return parts


def box(x, y, width, height, colour, hint):
    return (f"<rect x='{x:.1f}' y='{y:.1f}' width='{width:.1f}' height='{height}' fill='{colour}'>"
            f"<title>{html.escape(hint)}</title></rect>")


def text(x, y, content, anchor="start", size=12, weight="normal"):
    return (f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' font-size='{size}' "
            f"font-weight='{weight}' fill='#222'>{html.escape(str(content))}</text>")


def short(value):
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def document(title, note, parts, height):
    height = math.ceil(height)
    head = (f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}' "
            f"viewBox='0 0 {WIDTH} {height}' role='img' {FONT} "
            f"aria-label='{html.escape(title, quote=True)}'>")
    frame = f"<rect width='{WIDTH}' height='{height}' fill='#fff'/>"
    titles = [text(12, 18, title, size=14, weight="bold"),
              text(WIDTH - 12, 18, note, anchor="end", size=11)]
    return "\n".join([head, frame, *titles, *parts, "</svg>"]) + "\n"
