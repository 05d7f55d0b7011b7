"""sgdsim.experiments"""
