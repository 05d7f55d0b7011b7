"""Random numbers for a whole block of chains: normals, chi-square variables, subsets of examples."""
