"""sgdsim.results"""
