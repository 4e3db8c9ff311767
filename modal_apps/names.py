"""The names under which things are deployed. Whoever calls them uses these, so that both sides agree."""

#: The app that renders.
RENDERER_APP = "overspill-renderer"
#: Its class; the method `render` takes a request and returns an envelope.
RENDERER_CLASS = "Renderer"
