# SPDX-License-Identifier: Apache-2.0
"""Whether one build is slower than another, out of figures that were measured in turn.

Everything here is a cost: less is better. Nothing here measures.
"""

import dataclasses
import math
import statistics

# Standard deviation of a normal distribution, from its median absolute deviation.
MAD_TO_SIGMA = 1.4826
# The median of n values is that much more uncertain than their mean.
MEDIAN_TO_MEAN = 1.2533
# So many standard errors of the difference are more than chance, with few rounds.
ERRORS = 3.0
# With so many rounds each, no round of one below any of the other is no chance either.
ROUNDS_TO_SEPARATE = 4


@dataclasses.dataclass
class Verdict:
    """One thing of both builds. change 0.1 means that B costs a tenth more than A, by the medians;
    noise is what that may be by chance."""

    name: str
    unit: str
    a: float
    b: float
    change: float
    noise: float
    slower: bool
    faster: bool

    def word(self):
        return "SLOWER" if self.slower else "faster" if self.faster else "same"


def judge(name, unit, a, b, threshold):
    """Compare the costs a and b, one a round each; None if there are none."""
    if not a or not b or min(a) <= 0 or min(b) <= 0:
        return None
    # Ratios add up, and err to both sides alike, as logarithms.
    noise = ERRORS * math.hypot(error_of_median(a), error_of_median(b))
    middle_a, middle_b = statistics.median(a), statistics.median(b)
    return Verdict(name, unit, middle_a, middle_b, middle_b / middle_a - 1, math.expm1(noise),
                   is_slower(a, b, noise, threshold), is_slower(b, a, noise, threshold))


def is_slower(a, b, noise, threshold):
    """b costs more than a: by more than threshold in the median and not by chance, and also in the
    best round, which a busy machine disturbs least, by half of the threshold."""
    middle = math.log(statistics.median(b) / statistics.median(a))
    best = math.log(min(b) / min(a))
    apart = min(b) > max(a) and min(len(a), len(b)) >= ROUNDS_TO_SEPARATE
    return (middle > math.log1p(threshold) and best > math.log1p(threshold / 2)
            and (middle > noise or apart))


def error_of_median(values):
    """Standard error of the median, as a share of it; 0 of a single value."""
    middle = statistics.median(values)
    deviation = statistics.median(abs(v - middle) for v in values)
    return MEDIAN_TO_MEAN * MAD_TO_SIGMA * deviation / middle / math.sqrt(len(values))


def judge_exactly(name, unit, a, b, threshold):
    """Compare two counts that are the same every time, as those of instructions are."""
    if not a or not b:
        return None
    change = b / a - 1
    return Verdict(name, unit, a, b, change, 0.0, change > threshold, a / b - 1 > threshold)


def judge_all(costs_a, costs_b, units, threshold):
    """Verdicts of everything that both {name: [costs]} have, in the order of the first."""
    found = [judge(name, units.get(name, ""), values, costs_b[name], threshold)
             for name, values in costs_a.items() if name in costs_b]
    return [v for v in found if v is not None]


def only_in_one(costs_a, costs_b):
    """Names that are in one of them alone."""
    return sorted(set(costs_a) ^ set(costs_b))


def confirm(first, second):
    """What was slower is so only if it was again when it was measured once more; first without it
    otherwise. second has verdicts of what is in doubt."""
    again = {v.name: v for v in second}
    return [dataclasses.replace(v, slower=False) if v.slower and v.name in again and not again[v.name].slower
            else v for v in first]


def table(verdicts):
    """(head, body) for report.plain_table."""
    body = [(v.name, v.unit, f"{v.a:.4g}", f"{v.b:.4g}", f"{100 * v.change:+.1f} %", f"{100 * v.noise:.1f} %",
             v.word()) for v in verdicts]
    return ("what", "unit", "A", "B", "change", "noise", "verdict"), body
