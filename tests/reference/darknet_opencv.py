"""Run by an interpreter with OpenCV 4, whose dnn module reads Darknet's files (OpenCV 5 has dropped that).

darknet_opencv.py CFG WEIGHTS INPUT.npy OUTPUT.npz LAYER ...: the raw outputs of these convolutions.
"""

import sys

import cv2
import numpy as np

cfg, weights, source, out, *layers = sys.argv[1:]
net = cv2.dnn.readNetFromDarknet(cfg, weights)
net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
net.enableFusion(False)
net.setInput(np.load(source))
np.savez(out, *net.forward([f"conv_{i}" for i in layers]))
