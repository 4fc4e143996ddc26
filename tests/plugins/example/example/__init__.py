"""A method, a pair of networks and a data set of somebody else's for rayfed."""
