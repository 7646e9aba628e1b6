"""mesoskit.driver: frameworks and executors, against scripted peers and the real states."""
