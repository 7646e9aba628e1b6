"""The proof that nothing is lost: a cluster of processes under faults, and its books compared."""
