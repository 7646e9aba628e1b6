"""Apache Mesos as a Twisted library: a master, an agent and a driver for frameworks."""

__version__ = "0.1.0"
