"""Running models: pipelines, hooks, pictures and their scores."""
