"""Performance, measured as ratios and limits in one run."""
