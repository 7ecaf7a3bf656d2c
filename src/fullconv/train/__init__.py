"""Training: plan, recipe, loop, stages. Knows neither measuring nor prediction."""
