"""Use: what a MODEL is, and pictures in, predictions out."""
