"""The same work on Penstock, on its peers and on the floor, side by side in one run."""
