"""The live view: plan, camera and gate in a browser page on this machine while a run goes on."""

from cascade.live_view.view import LiveView

__all__ = ["LiveView"]
