"""Where a concept is: the methods, the search, and the runs that they share."""
