"""sgdsim.kernels"""
