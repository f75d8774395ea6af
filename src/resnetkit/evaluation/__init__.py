"""The score: what a classifier gets right on images it has not seen, with its n and its uncertainty."""
