"""The cluster room: who leads, and what is remembered."""
