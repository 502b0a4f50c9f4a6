"""Fine-tuning of image-to-video pipelines of diffusers on recorded episodes."""
