"""Images in: decode, sources, transforms, loader, and the health scan of a data set."""
