"""Prompts to tokens and text states, without diffusers or transformers."""
