"""What each recipe is: its model, its loss, the chance it needs, and what its evaluation measures.

`image_classifier` and `diffusion_transformer` implement `recipe.Recipe`; `flow` is the mathematics of the second. A
recipe knows neither checkpoints nor ranks nor schedules: those are the loop's.
"""
