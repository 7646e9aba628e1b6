"""For the tests of framework authors: a cluster without a cluster, and doubles of its parts."""
