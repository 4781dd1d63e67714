"""Callbacks: code that runs at fixed points of training, validation and prediction; loggers are callbacks too."""

from detect.callbacks.base import Callback as Callback
