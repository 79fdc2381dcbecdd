"""A listener for tests, which records the reports of a command."""

from loco_cli.events import Events


class RecordingListener:
    """Record every report, and call the hooks first: `run(..., listener.events)`."""

    def __init__(self, on_progress=None, on_preview=None):
        self.on_progress, self.on_preview = on_progress, on_preview
        self.progressed, self.found, self.previews, self.warnings = [], [], [], []
        self.events = Events(self)

    def progress(self, progress):
        if self.on_progress:
            self.on_progress(progress)
        self.progressed.append(progress)

    def localized(self, found):
        self.found.append(found)

    def previewed(self, preview):
        if self.on_preview:
            self.on_preview(preview)
        self.previews.append(preview)

    def warned(self, sentence):
        self.warnings.append(sentence)
