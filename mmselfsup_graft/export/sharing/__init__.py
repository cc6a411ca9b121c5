"""Encoders as repositories of the Hugging Face hub: files, model card, upload."""
