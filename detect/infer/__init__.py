"""Prediction: where frames come from, the network's answer in source pixels, drawing, and where results go."""
