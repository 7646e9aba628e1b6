"""How often a daemon looks for garbage: less often than Python does, and never among the program.

Nearly all that a daemon lets go of is freed at once, by its reference count; the collector looks
for what is left, objects that refer to each other. Python sets it off after 700 new objects, and
each time it has gone through a generation it goes through the older ones as well: a master that
takes in a thousand agents spends an eighth of its time there, and everybody waits meanwhile.
(C{python benchmarks/lives.py --agents 1000} tells the difference.)
"""

import gc
from typing import Final

#: New objects that set off a look at the youngest, and how many such looks one at the older ones.
#: The first is some hundred tasks; what it costs is spread over these, and takes about 1 ms.
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
