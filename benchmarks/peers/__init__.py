"""nearkin as one of the systems of the side-by-side harness."""
