"""Whether a line's scores have moved, by how much, since when and why: numpy and scipy only, no side effects."""
