"""The training job of the images: `train` fine-tunes BERT, `predict` answers with the result."""
