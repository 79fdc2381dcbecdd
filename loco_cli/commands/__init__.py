"""One file per verb: `plan()` checks a request and prices it, `run()` carries the plan out."""
