"""Records and pictures to pages and sheets."""
