"""The master room: the cluster: its agents, frameworks and offers."""
