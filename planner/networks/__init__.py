"""Networks of the embedded planner; all load and save through diffusers' ModelMixin."""
