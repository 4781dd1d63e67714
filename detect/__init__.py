"""gridhead: train a detector on COCO-format data, measure it with COCO's numbers, run it on images and video."""
