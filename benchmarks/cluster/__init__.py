"""Several processes and machines: hosts in network namespaces, links between them, and what crosses them."""
