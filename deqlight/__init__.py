"""deqlight: depth is time. Train neural networks inspired by differential equations, with any integrator."""
