"""The study of samples: what is wrong with them, what they are worth, what to label next. Road: after measuring."""
