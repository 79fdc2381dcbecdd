"""What an edit did: pictures before and after, scored, recognised and counted."""
