"""Tests of the app room: flags to services, and the samples in conf/."""
