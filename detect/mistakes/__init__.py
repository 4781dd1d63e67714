"""Label errors: labels that disagree with the predictions of models that were not trained on their images."""
