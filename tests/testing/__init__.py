"""mesoskit.testing: the network, and the cluster that frameworks are tested on."""
