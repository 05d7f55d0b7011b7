"""Kernels: draw one minibatch gradient for every chain at once."""

from sgdsim.kernels.base import Kernel as Kernel
from sgdsim.kernels.choose import KernelTable as KernelTable
from sgdsim.kernels.choose import kernel_table as kernel_table
from sgdsim.kernels.choose import make_kernel as make_kernel
