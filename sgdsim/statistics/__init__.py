"""sgdsim.statistics"""
