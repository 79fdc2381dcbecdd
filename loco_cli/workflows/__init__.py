"""One verb, one file, one run(): the only place where rooms meet."""
