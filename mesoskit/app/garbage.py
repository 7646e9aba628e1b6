"""How often a daemon looks for garbage: less often than Python does, and never among the program.

Nearly all that a daemon lets go of is freed at once, by its reference count; the collector looks
for what is left, objects that refer to each other. Python sets it off after 700 new objects, and
now and then through all that is alive: a master with a thousand agents spends a tenth of its time
there, and everybody waits for as long as 50 ms (C{python benchmarks/garbage.py}).
"""

import gc
from typing import Final

#: New objects that set off a look at the youngest, and how many such looks one at the older ones.
#: The first is some hundred tasks; a look at what they have left takes a few milliseconds.
THRESHOLDS: Final = (10_000, 20, 20)


def hold_off() -> None:
    """Look for no garbage while the program is imported: there is none."""
    gc.disable()


def begin() -> None:
    """
    Look for garbage from now on, but not among what is there: modules, classes, functions,
    which are most of a small daemon's objects and stay as long as it does.
    """
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    gc.enable()
