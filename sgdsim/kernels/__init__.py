"""Kernels: draw one minibatch gradient for every chain at once."""

from sgdsim.kernels.base import Kernel as Kernel
from sgdsim.kernels.batch_schedule import scheduled_kernel as scheduled_kernel
from sgdsim.kernels.choose import conditional_moments as conditional_moments
from sgdsim.kernels.choose import make_kernel as make_kernel
from sgdsim.kernels.choose import noise_at_minimum as noise_at_minimum
from sgdsim.kernels.choose import pallas_law as pallas_law
from sgdsim.kernels.choose import row_of as row_of
from sgdsim.kernels.join import KernelTable as KernelTable
from sgdsim.kernels.join import kernel_table as kernel_table
