"""Sanitised gradients, what they spend of a privacy budget, and attacks that measure what leaks."""
