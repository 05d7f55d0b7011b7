"""The variance of minibatch gradients along training, exactly: recursions, polynomials in 1/b, tiny epochs."""

from sgdsim.solver.variance.conditional import layer_gradient_variance as layer_gradient_variance
from sgdsim.solver.variance.epochs import epoch_gradient_variance as epoch_gradient_variance
from sgdsim.solver.variance.gradient_polynomial import gradient_variance_polynomial as gradient_variance_polynomial
from sgdsim.solver.variance.polynomial import VariancePolynomial as VariancePolynomial
from sgdsim.solver.variance.recursion import GradientVariance as GradientVariance
from sgdsim.solver.variance.recursion import gradient_variance as gradient_variance
from sgdsim.solver.variance.tangent import leading_variance_coefficient as leading_variance_coefficient
from sgdsim.solver.variance.two_layer import LayerPolynomials as LayerPolynomials
from sgdsim.solver.variance.words import wishart_moment as wishart_moment
