"""Labels that people and labelling programs work on: written from predictions, and joined again when corrected.

`writer.write_dataset` writes annotations in any registered format; a format is one file of this package.
"""
