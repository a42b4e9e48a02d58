"""The training of the embedded experts, one file an expert, from nothing and reproducibly."""
