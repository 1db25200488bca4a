"""Reading photographs, framing them to canvases, and what is measured of each beside its score."""
