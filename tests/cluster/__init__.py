"""A whole cluster of real daemons, real sockets and real tasks, and everything that can break."""
