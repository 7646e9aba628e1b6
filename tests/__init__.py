"""Tests, laid out like the rooms they test."""

from hypothesis import settings

# A busy machine must not fail a test: examples have no deadline.
settings.register_profile("mesoskit", deadline=None)
settings.load_profile("mesoskit")
