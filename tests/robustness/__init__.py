"""Programs that attack the package: hostile files, failing machines, and mutated code."""
