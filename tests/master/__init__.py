"""Tests of the master room."""
