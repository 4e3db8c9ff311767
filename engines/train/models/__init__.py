"""The two networks, as plain torch modules: images in, class scores out; noisy images, time and class in, velocity out.

Neither has running statistics or dropout, so that the gradients of a batch are the mean of those of its parts, however
it is cut into parts and ranks. `sizes` counts parameters without torch; a test holds it against the real modules.
"""
