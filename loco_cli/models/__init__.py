"""Models on this machine: their paths, their architecture, and their loaded parts."""
