"""Tests of the cluster room: stores, turns, leading."""
