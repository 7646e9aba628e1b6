"""The wire room: how messages travel."""
