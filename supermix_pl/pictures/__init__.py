"""Pictures of sets: sources, masks and mix."""
