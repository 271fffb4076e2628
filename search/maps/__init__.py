"""A space drawn in the plane: coordinates, a page to look at them, a picture."""
