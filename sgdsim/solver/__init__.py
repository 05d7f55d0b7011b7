"""sgdsim.solver"""
