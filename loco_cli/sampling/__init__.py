"""Running models: pipelines, hooks, pictures and scores."""
