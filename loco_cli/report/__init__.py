"""Pages, sheets, charts and sentences about results."""
