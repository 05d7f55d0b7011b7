"""sgdsim.plots"""
