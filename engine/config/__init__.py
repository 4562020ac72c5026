"""Everything that a user gives: recipes, options, paths and files, read and checked."""
