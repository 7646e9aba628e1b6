"""The agent room: one machine: its tasks, executors and sandboxes."""
