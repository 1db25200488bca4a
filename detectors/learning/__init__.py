"""What the families that learn by gradient descent share, and their networks."""
