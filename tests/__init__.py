"""Tests, laid out like the rooms they test."""

import os

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

# A busy machine must not fail a test: examples have no deadline, and may take long to be made. A
# change is judged by the same examples every time; new ones are looked for by `make explore`.
_SLOWLY = [HealthCheck.too_slow]
settings.register_profile(
    "mesoskit", deadline=None, derandomize=True, suppress_health_check=_SLOWLY
)
settings.register_profile(
    "explore",
    deadline=None,
    print_blob=True,
    # Of several an error cannot tell how to have each again.
    report_multiple_bugs=False,
    suppress_health_check=_SLOWLY,
)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "mesoskit")
settings.load_profile(PROFILE)
if PROFILE == "mesoskit" and hasattr(providers, "_get_local_constants"):
    # It would try the constants of all modules that happen to be loaded, which are others in each
    # of trial's workers each time.
    _none = providers._local_constants
    providers._get_local_constants = lambda: _none


# Other users have to reach what tests make for them, whatever the mask of whoever runs these.
os.umask(0o022)

_TIMES = max(1, int(os.environ.get("MESOSKIT_SOAK") or 1))


def example_count(usual: int) -> int:
    """Return how many examples a machine is tried with: C{MESOSKIT_SOAK} times the usual number."""
    return usual * _TIMES
