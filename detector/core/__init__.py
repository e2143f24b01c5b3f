"""Pure code: the fold, episodes, the fleet stage. No clock, network, files or logging."""
