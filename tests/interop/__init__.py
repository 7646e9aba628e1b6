"""Clients that others wrote, unmodified, against master and agents of ours."""
