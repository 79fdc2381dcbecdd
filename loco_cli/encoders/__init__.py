"""Text encoders: from prompts to tokens and states, without diffusers or transformers."""
