"""sgdsim.engine"""
