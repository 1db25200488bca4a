"""Closed formulas on patch features: banks and their coresets, Gaussians, whitening, from distances to a score."""
