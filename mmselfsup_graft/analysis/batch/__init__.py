"""The batches that a run feeds its model: views after all augmentation, and masks."""
