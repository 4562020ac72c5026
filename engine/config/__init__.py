"""What a run is asked for: recipes, command lines and paths, read and checked."""
