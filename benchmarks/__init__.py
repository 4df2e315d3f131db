"""What produces the numbers of the README: scripts here, their results in `results/`."""
