"""What each recipe is: its model, its loss, its random draws, and what its evaluation measures.

`catalogue` makes the recipe that a config names. `image_classifier` and `diffusion_transformer` implement
`recipe.Recipe`; `flow` is the mathematics of the second. A recipe knows neither checkpoints nor ranks nor schedules:
those are the loop's.
"""
