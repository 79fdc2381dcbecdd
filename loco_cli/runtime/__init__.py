"""Running models: the only room that imports diffusers, holds hooks, or draws noise."""
