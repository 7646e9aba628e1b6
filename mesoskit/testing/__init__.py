"""Doubles for authors of frameworks: real states behind links that stay in the process."""
