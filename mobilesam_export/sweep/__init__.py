"""Targets, recipes, image sizes and weights -> what each combination of them is worth."""
