"""The prompts around a concept: its neighbours, what is left alone, what is asked after."""
