"""Image-to-video pipelines of diffusers as planners: Wan, LTX-Video, CogVideoX, Cosmos, HunyuanVideo and others."""
